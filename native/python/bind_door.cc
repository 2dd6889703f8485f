/* The way in and out of a plan: NumPy arrays are taken as they are, by the buffer protocol, and nothing is converted. A call costs well
 * under a microsecond besides the plan's steps. */
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "graph/plan.h"
#include "python/bind_door.h"

namespace nb = nanobind;
namespace bitfold {
namespace {

using Shape = std::vector<Py_ssize_t>; /* of one image */

/* A user's array, of one input or output. */
struct Side {
  Plan::Port port;
  Shape shape;
  nb::object dtype;
};

/* struct's letters for the type; numpy calls int32 an "l" where a C long has 32 bits. */
const char* letters(Outside outside) {
  switch (outside) {
    case Outside::kF32: return "f";
    case Outside::kI32: return "il";
    case Outside::kI16: return "h";
    case Outside::kU8: return "B";
  }
  return "";
}

/* What is the same for every call: types are looked up once. */
struct NumPy {
  nb::object array, empty;
  NumPy() {
    nb::module_ numpy = nb::module_::import_("numpy");
    array = numpy.attr("ndarray"), empty = numpy.attr("empty");
  }
  static nb::object dtype(Outside outside) {
    const char* name = outside == Outside::kF32 ? "float32" : outside == Outside::kI32 ? "int32" : outside == Outside::kI16 ? "int16" : "uint8";
    return nb::module_::import_("numpy").attr("dtype")(name);
  }
};

/* The buffers of some arrays, held until the end of a call; without an allocation for the usual few. */
class Views {
 public:
  explicit Views(size_t count) {
    if (count > few_.size()) many_ = std::make_unique<Py_buffer[]>(count), views_ = many_.get();
  }
  ~Views() {
    while (held_ > 0) PyBuffer_Release(&views_[--held_]);
  }
  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;

  const Py_buffer& operator[](size_t i) const { return views_[i]; }

  /* False, and no Python error, for anything but a dense aligned array of this type and (batch, *shape). batch < 0: any, and receives it. */
  bool add(nb::handle array, nb::handle array_type, const Side& side, Py_ssize_t& batch, bool writable) {
    if (reinterpret_cast<PyObject*>(Py_TYPE(array.ptr())) != array_type.ptr()) return false;
    Py_buffer& view = views_[held_];
    if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) != 0) {
      PyErr_Clear();
      return false;
    }
    ++held_;
    if (view.ndim != static_cast<int>(side.shape.size()) + 1 || view.itemsize != outside_bytes(side.port.outside)) return false;
    if (batch < 0) batch = view.shape[0];
    if (view.shape[0] != batch || !std::equal(side.shape.begin(), side.shape.end(), view.shape + 1)) return false;
    const std::string_view format = view.format ? view.format : "B";
    return format.size() == 1 && std::string_view(letters(side.port.outside)).find(format[0]) != std::string_view::npos &&
           reinterpret_cast<uintptr_t>(view.buf) % static_cast<size_t>(view.itemsize) == 0 && PyBuffer_IsContiguous(&view, 'C');
  }

  bool overlaps(const Views& other) const {
    for (size_t i = 0; i < held_; ++i) {
      for (size_t j = 0; j < other.held_; ++j) {
        const auto a = reinterpret_cast<uintptr_t>(views_[i].buf), b = reinterpret_cast<uintptr_t>(other.views_[j].buf);
        if (a < b + static_cast<size_t>(other.views_[j].len) && b < a + static_cast<size_t>(views_[i].len)) return true;
      }
    }
    return false;
  }

 private:
  std::array<Py_buffer, 4> few_;
  std::unique_ptr<Py_buffer[]> many_;
  Py_buffer* views_ = few_.data();
  size_t held_ = 0;
};

/* Pointers to the data of some arrays, with the same few held in place. */
template <typename Pointer>
class Pointers {
 public:
  Pointers(const Views& views, size_t count) {
    if (count > few_.size()) many_ = std::make_unique<Pointer[]>(count), data_ = many_.get();
    for (size_t i = 0; i < count; ++i) data_[i] = views[i].buf;
  }
  Pointers(const Pointers&) = delete;
  Pointers& operator=(const Pointers&) = delete;
  Pointer* data() { return data_; }

 private:
  std::array<Pointer, 4> few_;
  std::unique_ptr<Pointer[]> many_;
  Pointer* data_ = few_.data();
};

class Door {
 public:
  Door(nb::object plan, const std::vector<Shape>& inputs, const std::vector<Shape>& outputs)
      : owner_(std::move(plan)), plan_(nb::cast<Plan*>(owner_)) {
    require(plan_->finished(), "Door: the plan is not finished");
    inputs_ = sides(plan_->inputs(), inputs, "input");
    outputs_ = sides(plan_->outputs(), outputs, "output");
  }

  /* None if the arrays do not fit; else the output, or a tuple of them: `out` where it is given. */
  nb::object run(nb::tuple inputs, nb::object out) const { return pass(inputs, std::move(out), [](auto&& call) { call(nullptr); }); }

  /* [repeat][input door, steps ..., output door] in nanoseconds. */
  std::vector<std::vector<double>> profile(nb::tuple inputs, int repeats) const {
    require(repeats >= 1 && repeats <= 1000000, "profile: repeats out of range");
    std::vector<std::vector<double>> times(static_cast<size_t>(repeats), std::vector<double>(plan_->steps() + 2, 0.0));
    const nb::object done = pass(inputs, nb::none(), [&](auto&& call) {
      for (auto& row : times) call(row.data());
    });
    require(!done.is_none(), "profile: the arrays do not fit");
    return times;
  }

 private:
  static std::vector<Side> sides(const std::vector<Plan::Port>& ports, const std::vector<Shape>& shapes, const char* what) {
    require(ports.size() == shapes.size(), std::string("Door: one shape for every ") + what);
    std::vector<Side> made;
    for (size_t i = 0; i < ports.size(); ++i) {
      double elements = 1;
      for (Py_ssize_t n : shapes[i]) {
        require(n >= 1, std::string("Door: wrong shape of an ") + what);
        elements *= static_cast<double>(n);
      }
      require(elements == static_cast<double>(ports[i].image_elements), std::string("Door: a shape has other elements than the ") + what);
      made.push_back({ports[i], shapes[i], NumPy::dtype(ports[i].outside)});
    }
    return made;
  }

  /* How many outputs, and which: an array where there is one, else a tuple. */
  bool outputs_given(nb::handle out) const {
    return outputs_.size() == 1 || (nb::isinstance<nb::tuple>(out) && nb::len(out) == outputs_.size());
  }

  nb::handle output_at(nb::handle out, size_t i) const { return outputs_.size() == 1 ? out : nb::handle(PyTuple_GetItem(out.ptr(), static_cast<Py_ssize_t>(i))); }

  nb::object new_array(const Side& side, Py_ssize_t batch) const {
    nb::object shape = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(side.shape.size()) + 1));
    if (!shape.is_valid()) throw nb::python_error();
    for (size_t i = 0; i <= side.shape.size(); ++i) {
      PyObject* n = PyLong_FromSsize_t(i == 0 ? batch : side.shape[i - 1]);
      if (n == nullptr || PyTuple_SetItem(shape.ptr(), static_cast<Py_ssize_t>(i), n) != 0) throw nb::python_error();
    }
    return numpy_.empty(shape, side.dtype);
  }

  nb::object new_outputs(Py_ssize_t batch) const {
    if (outputs_.size() == 1) return new_array(outputs_[0], batch);
    nb::object made = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(outputs_.size())));
    if (!made.is_valid()) throw nb::python_error();
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (PyTuple_SetItem(made.ptr(), static_cast<Py_ssize_t>(i), new_array(outputs_[i], batch).release().ptr()) != 0) throw nb::python_error();
    }
    return made;
  }

  /* Checks the arrays, then calls within(call) without the GIL; call(step_ns) runs the plan. */
  template <typename Within>
  nb::object pass(nb::handle inputs, nb::object out, const Within& within) const {
    if (static_cast<size_t>(PyTuple_Size(inputs.ptr())) != inputs_.size()) return nb::none();
    Views from(inputs_.size()), to(outputs_.size());
    Py_ssize_t batch = -1;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!from.add(PyTuple_GetItem(inputs.ptr(), static_cast<Py_ssize_t>(i)), numpy_.array, inputs_[i], batch, false)) return nb::none();
    }
    const bool given = !out.is_none();
    if (!given) out = new_outputs(batch);
    else if (!outputs_given(out)) return nb::none();
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (!to.add(output_at(out, i), numpy_.array, outputs_[i], batch, true)) return nb::none();
    }
    if (given && to.overlaps(from)) return nb::none();
    Pointers<const void*> sources(from, inputs_.size());
    Pointers<void*> targets(to, outputs_.size());
    {
      nb::gil_scoped_release release;
      within([&](double* step_ns) { plan_->run(sources.data(), targets.data(), static_cast<size_t>(batch), step_ns); });
    }
    return out;
  }

  nb::object owner_;
  Plan* plan_;
  NumPy numpy_;
  std::vector<Side> inputs_, outputs_;
};

}  // namespace

void bind_door(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<Door>(m, "Door", "Runs a finished plan on NumPy arrays of given shapes (of one image). See bitfold.engine.engine.")
      .def(nb::init<nb::object, const std::vector<Shape>&, const std::vector<Shape>&>(), "plan"_a, "inputs"_a, "outputs"_a)
      .def("run", &Door::run, "inputs"_a, "out"_a.none(),
           "The output or a tuple of them, in `out` if given; None unless every array is C-ordered, aligned, of the right type and shape.")
      .def("profile", &Door::profile, "inputs"_a, "repeats"_a);
}

}  // namespace bitfold
