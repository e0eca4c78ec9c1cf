// SPDX-License-Identifier: MIT
#include "web/python/web_server.h"

#include <cstdlib>

#include <array>
#include <cstring>

#include "base/clock.h"
#include "python/interp/error.h"
#include "web/python/handler_exchange.h"
#include "web/python/handler_table.h"
#include "web/python/server_options.h"

namespace cxxloop::python {
namespace {

// A body of 100 KiB would make the heap grow and shrink again with each request, and the kernel zero its pages. glibc takes
// a freed piece as large as this one for a sign that smaller ones are usual, and keeps up to twice as much at the heap's end.
void make_malloc_keep_bodies() noexcept {
  constexpr size_t piece_bytes = 1024 * 1024;
  void* volatile piece = std::malloc(piece_bytes);
  std::free(piece);
}

}  // namespace

WebServer::WebServer(PyObject* self_object, const WebState& state, PyObject* loop) noexcept
    : self_(self_object), state_(state), loop_(Ref::borrow(loop)) {}

WebServer::~WebServer() {
  if (life_ == Life::open) close_core();
  CXL_CHECK(life_ == Life::closed && calls_.empty());
}

// --- the beginning --------------------------------------------------------------------------------------------

bool WebServer::open(Gil gil, const WebServerArgs& args) noexcept {
  make_malloc_keep_bodies();
  io::Backend* const backend = state_.access->backend_of(gil, loop_.get());
  if (backend == nullptr) return false;
  const Ref rest = Ref::steal(PyDict_New());
  ServerTexts texts;
  if (!rest || !read_limits(gil, args.options, &limits_, rest.get()) || !read_texts(gil, rest.get(), &texts)) return false;
  app_ = Ref::borrow(args.app);
  on_idle_ = Ref::borrow(args.on_idle);
  on_access_ = Ref::borrow(args.on_access == Py_None ? nullptr : args.on_access);
  on_error_ = Ref::borrow(args.on_error);
  if (texts.trusted && !trusted_.assign(gil, texts.trusted.get())) return false;
  if (texts.proxies && !proxies_.assign(gil, texts.proxies.get())) return false;
  if (texts.tls && !tls_.open(gil, texts.tls.get(), PyUnicode_AsUTF8(texts.tls_engine.get()))) return false;
  if (texts.headers && !default_headers_.assign(gil, {}, texts.headers.get())) return false;
  if (!scopes_.open(gil, state_, texts.scheme.get(), texts.root_path.get(),
                    args.state == Py_None ? nullptr : args.state) ||
      !prepare_tasks(gil) || !find_handlers(gil)) {
    return false;
  }
  web::ServerOptions options;
  options.limits = limits_;
  options.date_header = texts.date_header;
  options.websockets = texts.websockets;
  options.proxy_protocol = texts.proxy_protocol;
  if (!texts.websocket_deflate) options.websocket_deflate.reset();
  options.release = release_owner;
  if (texts.tls) options.tls = &tls_;
  if (texts.metrics_fd >= 0) {
    Result<web::MetricsBlock> metrics = web::MetricsBlock::map(texts.metrics_fd);
    if (!metrics.ok()) return raise_errno(gil, metrics.error()) != nullptr;
    metrics_ = std::move(metrics.value());
    options.metrics = metrics_.get();
  }
  Py_ssize_t size = 0;
  const char* const server_header = texts.server_header ? PyUnicode_AsUTF8AndSize(texts.server_header.get(), &size) : "";
  if (server_header == nullptr) return false;
  options.server_header = {server_header, static_cast<size_t>(size)};
  server_header_ = std::move(texts.server_header);
  const char* const health_path = texts.health_path ? PyUnicode_AsUTF8AndSize(texts.health_path.get(), &size) : "";
  if (health_path == nullptr) return false;
  options.health_path = {health_path, texts.health_path ? static_cast<size_t>(size) : 0};
  health_path_ = std::move(texts.health_path);
  // What ran in between may have closed the loop.
  engine_ = state_.access->engine_of(gil, loop_.get());
  if (engine_ == nullptr) return false;
  core_.emplace(*engine_, *backend, *this, options);
  state_.access->add_guest(gil, loop_.get(), *this);
  return true;
}

// An App gives a table of its handlers, whose requests need not go through its __call__(). The attribute is the type's, so
// that what wraps an App and passes its attributes on is not taken for one.
bool WebServer::find_handlers(Gil) noexcept {
  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(app_.get()));
  if (PyObject_HasAttrString(type, "native_handlers") == 0) return true;
  // Runs Python: App.native_handlers().
  Ref table = Ref::steal(PyObject_CallMethod(app_.get(), "native_handlers", "O", state_.handler_table_type));
  if (!table) return false;
  if (Py_IS_TYPE(table.get(), state_.handler_table_type)) handlers_ = std::move(table);
  return true;
}

bool WebServer::prepare_tasks(Gil) noexcept {
  context_ = Ref::steal(PyContext_CopyCurrent());
  task_type_ = Ref::steal(PyObject_GetAttrString(state_.tasks_module, "Task"));
  task_keywords_ = Ref::steal(PyDict_New());
  if (!context_ || !task_type_ || !task_keywords_) return false;
  if (PyDict_SetItem(task_keywords_.get(), state_.name(Name::loop), loop_.get()) < 0) return false;
#if PY_VERSION_HEX >= 0x030C0000
  if (PyDict_SetItem(task_keywords_.get(), state_.name(Name::eager_start), Py_True) < 0) return false;
#endif
  return PyDict_SetItem(task_keywords_.get(), state_.name(Name::context), Py_None) == 0;
}

bool WebServer::listen(Gil gil, int fd) noexcept {
  if (state_.access->engine_of(gil, loop_.get()) == nullptr) return false;
  if (life_ != Life::open) {
    PyErr_SetString(PyExc_RuntimeError, "the server is closed");
    return false;
  }
  const Errno error = core_->listen(fd);
  if (error != Errno::ok) return raise_errno(gil, error) != nullptr;
  if (!is_pinned_) Py_INCREF(self_);
  is_pinned_ = true;
  return true;
}

void WebServer::stop_listening() noexcept {
  if (life_ == Life::open) core_->stop_listening();
}

void WebServer::drain() noexcept {
  if (life_ == Life::open) core_->drain();
}

bool WebServer::set_limits(Gil gil, PyObject* changes) noexcept {
  if (!read_limits(gil, changes, &limits_, nullptr)) return false;
  if (life_ == Life::open) core_->set_limits(limits_);
  return true;
}

Ref WebServer::counters(Gil) const noexcept {
  const web::ServerCounters counted = core_ ? core_->counters() : web::ServerCounters();
  std::array<uint64_t, web::counter_names.size()> values;
  std::memcpy(values.data(), &counted, sizeof counted);
  Ref counters = Ref::steal(PyDict_New());
  for (size_t i = 0; counters && i < values.size(); ++i) {
    const Ref value = Ref::steal(PyLong_FromUnsignedLongLong(values[i]));
    if (!value || PyDict_SetItemString(counters.get(), web::counter_names[i], value.get()) < 0) return {};
  }
  return counters;
}

Ref WebServer::tasks(Gil) const noexcept {
  Ref list = Ref::steal(PyList_New(0));
  calls_.each([&list](AsgiCall& call) {
    if (list && call.task() != nullptr && PyList_Append(list.get(), call.task()) < 0) list.reset();
  });
  return list;
}

// --- the end --------------------------------------------------------------------------------------------------

// Every exchange ends inside: the applications see a client that has gone.
void WebServer::close_core() noexcept {
  life_ = Life::closed;
  if (core_ && !core_->close()) life_ = Life::lingering;
}

void WebServer::close(Gil) noexcept {
  if (life_ != Life::open) return;
  close_core();
  // Not at once: a connection of the core may stand on the stack, and dies with the core's server.
  if (life_ == Life::closed && is_pinned_ && engine_ != nullptr) engine_->post_here(release_task_);
}

// May destroy the server.
void WebServer::unpin() noexcept {
  if (!std::exchange(is_pinned_, false)) return;
  unlink();
  Py_DECREF(self_);
}

bool WebServer::on_loop_close(Gil gil) noexcept {
  const Ref pin = Ref::borrow(self_);
  const bool was_open = life_ == Life::open;
  if (was_open) close_core();
  is_closing_ = life_ == Life::lingering || engine_->cork().is_open();
  if (is_closing_) return false;
  engine_ = nullptr;
  drop_calls(gil);
  if (was_open) unpin();  // else the task that is posted does it, which the loop runs before it closes
  return true;
}

void WebServer::on_backend_drained(Gil gil) noexcept {
  const Ref pin = Ref::borrow(self_);
  is_closing_ = false;
  core_->finish_close();
  life_ = Life::closed;
  engine_ = nullptr;
  drop_calls(gil);
  unpin();
}

// Nobody will run their tasks. Runs Python: what dies with the coroutines.
void WebServer::drop_calls(Gil) noexcept {
  while (AsgiCall* const call = calls_.pop_front()) Py_DECREF(call->object());
}

void WebServer::clear(Gil gil) noexcept {
  if (life_ == Life::open) close_core();
  if (life_ == Life::closed) drop_calls(gil);
  each_ref(drop_refs);
}

// --- calls ----------------------------------------------------------------------------------------------------

Ref WebServer::make_context(Gil) noexcept {
  if (context_) return Ref::steal(PyContext_Copy(context_.get()));
  PyErr_SetString(PyExc_RuntimeError, "the server has gone");
  return {};
}

Ref WebServer::make_task(Gil gil, PyObject* call, PyObject* context) noexcept {
  if (state_.access->has_task_factory(loop_.get())) return make_task_by_loop(gil, call, context);
  const Ref args = Ref::steal(PyTuple_Pack(1, call));
  const Ref keywords = Ref::borrow(task_keywords_.get());
  PyObject* const key = state_.name(Name::context);
  if (!args || !keywords || PyDict_SetItem(keywords.get(), key, context) < 0) return {};
  const Ref type = Ref::borrow(task_type_.get());
  // Runs Python: the application's first step. One that brings the next request here uses the same keywords: the task
  // that is made around it has read them by then.
  Ref task = Ref::steal(PyObject_Call(type.get(), args.get(), keywords.get()));
  Ref exception = task ? Ref() : take_exception(gil);
  if (PyDict_SetItem(keywords.get(), key, Py_None) < 0) PyErr_Clear();  // an existing key: cannot fail
  if (exception) set_exception(gil, std::move(exception));
  return task;
}

Ref WebServer::make_task_by_loop(Gil, PyObject* call, PyObject* context) noexcept {
  const Ref names = Ref::steal(PyTuple_Pack(1, state_.name(Name::context)));
  PyObject* const args[] = {loop_.get(), call, context};
  // Runs Python: the program's task factory.
  return names ? Ref::steal(PyObject_VectorcallMethod(state_.name(Name::create_task), args, 2, names.get())) : Ref();
}

void WebServer::tell_access(Gil gil, PyObject* scope, const web::Ending& ending, int64_t duration_ns) noexcept {
  const Ref callback = Ref::borrow(on_access_.get());
  if (!callback) return;
  const Ref status = Ref::steal(PyLong_FromLong(ending.status));
  const Ref body_bytes = Ref::steal(PyLong_FromUnsignedLongLong(ending.body_bytes));
  const Ref seconds = Ref::steal(PyFloat_FromDouble(static_cast<double>(duration_ns) / web::second_ns));
  PyObject* const args[] = {scope, status.get(), body_bytes.get(), seconds.get()};
  const bool is_made = status && body_bytes && seconds;
  // Runs Python: the access log.
  if (is_made && Ref::steal(PyObject_Vectorcall(callback.get(), args, 4, nullptr))) return;
  report(gil, "Exception in callback on_access of a web server");
}

void WebServer::tell_error(Gil gil, PyObject* message, PyObject* exception) noexcept {
  const Ref callback = Ref::borrow(on_error_.get());
  if (!callback) return;
  PyObject* const args[] = {message, exception};
  // Runs Python: the error log.
  if (Ref::steal(PyObject_Vectorcall(callback.get(), args, 2, nullptr))) return;
  report(gil, "Exception in callback on_error of a web server");
}

void WebServer::tell_error(Gil gil, const char* message, PyObject* exception) noexcept {
  const Ref text = Ref::steal(PyUnicode_FromString(message));
  if (!text) return report(gil, message);
  tell_error(gil, text.get(), exception);
}

bool WebServer::is_interrupt(PyObject* exception) const noexcept {
  if (PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt) != 0) return true;
  const bool is_forked = engine_ != nullptr && engine_->cork().is_inherited();
  return is_forked && PyErr_GivenExceptionMatches(exception, PyExc_SystemExit) != 0;
}

void WebServer::report(Gil gil, const char* message) noexcept {
  state_.access->report_or_leave(gil, loop_.get(), message);
}

// --- web::Application -----------------------------------------------------------------------------------------

void* WebServer::on_connect(int fd, const io::Address& peer) noexcept {
  const Gil gil = Gil::in_slot();
  Peer* const made = make_peer(gil, fd, peer, trusted_);
  if (made == nullptr) report(gil, "Exception while a web server accepted a connection");
  return made;
}

void WebServer::on_request(web::Exchange& exchange, const web::Request& request) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_);
  const Ref table = Ref::borrow(handlers_.get());
  if (table && !request.asks_websocket && serve_handler(gil, *this, table.get(), exchange, request)) return;
  const Ref call = Ref::steal(AsgiCall::make(gil, *this));
  Ref scope = call ? make_scope(gil, request) : Ref();
  Ref context = scope ? make_context(gil) : Ref();
  if (context && (!request.asks_websocket || AsgiCall::of(call.get()).make_websocket(gil))) {
    return AsgiCall::of(call.get()).begin(gil, exchange, Ref::borrow(app_.get()), std::move(scope), std::move(context));
  }
  report(gil, "Exception while a web server took a request");
  exchange.set_user(no_user_);
  exchange.abort();
}

// Who reaches a UNIX socket was let in by its permissions, and is never the client itself where proxies are expected.
bool WebServer::is_proxy(int fd, const io::Address& peer) noexcept {
  io::Address address = peer;
  if (address.size == 0) {
    address.size = sizeof(address.storage);
    if (getpeername(fd, address.get(), &address.size) != 0) return false;
  }
  return address.storage.ss_family == AF_UNIX || proxies_.contains(address);
}

// The core tries again by itself.
void WebServer::on_accept_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_);
  raise_errno(gil, error);
  report(gil, "socket.accept() out of system resource");
}

void WebServer::on_idle() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_);
  const Ref callback = Ref::borrow(on_idle_.get());
  if (!callback) return;
  // Runs Python: it may close the server.
  if (!Ref::steal(PyObject_CallNoArgs(callback.get()))) report(gil, "Exception in callback on_idle of a web server");
}

}  // namespace cxxloop::python
