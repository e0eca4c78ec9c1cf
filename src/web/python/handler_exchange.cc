// SPDX-License-Identifier: MIT
#include "web/python/handler_exchange.h"

#include <new>
#include <string>

#include "base/clock.h"
#include "python/interp/error.h"
#include "web/python/handler_body.h"
#include "web/python/handler_response.h"
#include "web/python/handler_scope.h"
#include "web/python/handler_work.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

// The user of an exchange that is answered before the callback ends; lies on the stack.
class DirectUser final : public web::ExchangeUser {
 public:
  // A null scope: nobody asks for it at the end.
  DirectUser(web::Exchange& exchange, Ref scope) noexcept
      : exchange_(&exchange), scope_(std::move(scope)), begun_ns_(scope_ ? monotonic_ns() : 0) {
    exchange.set_user(*this);
  }

  void on_body() noexcept override {}
  void on_disconnect() noexcept override {}
  void on_drained() noexcept override {}
  void on_end(const web::Ending& ending) noexcept override {
    exchange_ = nullptr;
    ending_ = ending;
  }

  // Null: it has ended, by a handler that has closed the server, say.
  [[nodiscard]] web::Exchange* const& exchange() const noexcept { return exchange_; }
  // Runs Python: the access log.
  void tell_access(Gil gil, WebServer& server) const noexcept {
    if (exchange_ != nullptr || !scope_ || ending_.status == 0) return;
    server.tell_access(gil, scope_.get(), ending_, monotonic_ns() - begun_ns_);
  }

 private:
  web::Exchange* exchange_;
  Ref scope_;
  int64_t begun_ns_;
  web::Ending ending_{web::Ending::Why::closed};
};

// The indicator is set: by nothing that a handler may raise, or by a response that must not go out.
void fail(Gil gil, WebServer& server, web::Exchange* const& exchange) noexcept {
  Ref exception = take_exception(gil);
  // Runs Python: the error log.
  if (!server.is_interrupt(exception.get())) server.tell_error(gil, "Exception in ASGI application", exception.get());
  if (exchange != nullptr) exchange->abort();
  if (!server.is_interrupt(exception.get())) return;
  set_exception(gil, std::move(exception));
  server.report(gil, "Exception in a handler");
}

// As fail(), of an exchange without a user.
void give_up(Gil gil, WebServer& server, web::Exchange& exchange) noexcept {
  DirectUser user(exchange, Ref());
  server.report(gil, "Exception while a web server took a request");
  if (user.exchange() != nullptr) user.exchange()->abort();
}

void answer(Gil gil, WebServer& server, DirectUser& user, HandlerResponse& response, bool is_head) noexcept {
  if (!response.send(gil, server, user.exchange(), is_head)) fail(gil, server, user.exchange());
  user.tell_access(gil, server);
}

// The handler has returned a stream, say: a task is needed after all.
void run_application(Gil gil, WebServer& server, web::Exchange& exchange, Ref application, Ref scope, Ref context) noexcept {
  const Ref call = scope ? Ref::steal(AsgiCall::make(gil, server)) : Ref();
  if (!call) return give_up(gil, server, exchange);
  AsgiCall::of(call.get()).begin(gil, exchange, std::move(application), std::move(scope), std::move(context));
}

void run_function(Gil gil, WebServer& server, web::Exchange& exchange, const HandlerWork& work) noexcept {
  HandlerScope& scope = HandlerScope::of(work.scope.get());
  Ref context = server.make_context(gil);
  if (!context) return give_up(gil, server, exchange);
  DirectUser user(exchange, server.wants_access() ? scope.whole(gil) : Ref());
  HandlerResponse response;
  bool is_taken = false;
  {
    const ContextScope in_context(gil, context.get());
    // Runs Python: the handler, which may do anything, and the error log.
    const Ref result = work.call(gil);
    is_taken = (result && response.take(gil, HandlerTable::of(work.table.get()), result.get())) ||
               response.take_exception_of(gil, server, work);
  }
  if (!is_taken) {
    fail(gil, server, user.exchange());
  } else if (response.is_nothing()) {
    if (user.exchange() != nullptr) user.exchange()->abort();
  } else if (!response.is_application()) {
    answer(gil, server, user, response, scope.is_head());
  } else if (user.exchange() != nullptr) {
    run_application(gil, server, *user.exchange(), response.take_application(), scope.whole(gil), std::move(context));
  }
}

void run(Gil gil, WebServer& server, web::Exchange& exchange, HandlerWork work, bool is_async) noexcept {
  if (!is_async) return run_function(gil, server, exchange, work);
  Ref context = server.make_context(gil);
  const Ref call = context ? Ref::steal(AsgiCall::make(gil, server)) : Ref();
  if (!call) return give_up(gil, server, exchange);
  AsgiCall::of(call.get()).begin_handler(gil, exchange, std::move(work), std::move(context));
}

void answer_text(Gil gil, WebServer& server, web::Exchange& exchange, HandlerScope& scope, HandlerResponse& response) noexcept {
  DirectUser user(exchange, server.wants_access() ? scope.whole(gil) : Ref());
  answer(gil, server, user, response, scope.is_head());
}

// A request whose handler is called when the body has come.
class PendingHandler final : public web::ExchangeUser {
 public:
  PendingHandler(WebServer& server, web::Exchange& exchange, HandlerWork work, HandlerBody body, bool is_async) noexcept
      : server_(server),
        server_object_(Ref::borrow(server.object())),
        exchange_(exchange),
        work_(std::move(work)),
        body_(std::move(body)),
        begun_ns_(server.wants_access() ? monotonic_ns() : 0),
        is_async_(is_async) {}

  // Both as what ExchangeUser says; they destroy this when there is nothing more to wait for.
  void on_body() noexcept override {
    const Gil gil = Gil::in_slot();
    const HandlerBody::Outcome outcome = body_.gather(gil, exchange_);
    if (outcome != HandlerBody::Outcome::wait) finish(gil, outcome);
  }
  void on_end(const web::Ending& ending) noexcept override {
    const Gil gil = Gil::in_slot();
    const std::unique_ptr<PendingHandler> self(this);
    if (begun_ns_ == 0 || ending.status == 0) return;
    const Ref scope = HandlerScope::of(work_.scope.get()).whole(gil);
    // Runs Python: the access log.
    if (scope) server_.tell_access(gil, scope.get(), ending, monotonic_ns() - begun_ns_);
  }
  void on_disconnect() noexcept override { on_body(); }  // take_body() says that the rest is lost
  void on_drained() noexcept override {}

  // What gather() has said: not wait. Destroys this. Runs Python: the handler.
  void finish(Gil gil, HandlerBody::Outcome outcome) noexcept {
    if (outcome == HandlerBody::Outcome::lost) return exchange_.abort();
    const std::unique_ptr<PendingHandler> self(this);
    const HandlerTable& table = HandlerTable::of(work_.table.get());
    if (outcome == HandlerBody::Outcome::too_long) {
      HandlerResponse response;
      response.take_text(413, "The body is too long.");
      return answer_text(gil, server_, exchange_, HandlerScope::of(work_.scope.get()), response);
    }
    Ref body = outcome == HandlerBody::Outcome::whole ? body_.take(gil) : Ref();
    if (!body) return give_up(gil, server_, exchange_);
    table.slot(work_.request.get(), RequestSlot::body) = std::move(body);
    run(gil, server_, exchange_, std::move(work_), is_async_);
  }

 private:
  WebServer& server_;
  const Ref server_object_;
  web::Exchange& exchange_;
  HandlerWork work_;
  HandlerBody body_;
  const int64_t begun_ns_;  // 0: nobody asks for it
  const bool is_async_;
};

// What a request needs to be routed, and its scope, which is detached when the request is valid no longer.
class Routed {
 public:
  Routed(Gil gil, WebServer& server, const web::Request& request) noexcept
      : gil_(gil), scope_(HandlerScope::make(gil, server, request)), path_(request.head.path) {
    if (!scope_ || path_.find('%') == path_.npos) return;
    decoded_ = server.scopes().make_path(gil, path_);
    Py_ssize_t size = 0;
    const char* const text = decoded_ ? PyUnicode_AsUTF8AndSize(decoded_.get(), &size) : nullptr;
    if (text == nullptr) scope_.reset();
    path_ = {text, static_cast<size_t>(size)};
  }
  Routed(const Routed&) = delete;
  Routed& operator=(const Routed&) = delete;
  ~Routed() {
    if (scope_) scope().detach(gil_);
  }

  // False: the indicator is set.
  [[nodiscard]] bool is_valid() const noexcept { return static_cast<bool>(scope_); }
  [[nodiscard]] HandlerScope& scope() const noexcept { return HandlerScope::of(scope_.get()); }
  [[nodiscard]] std::string_view path() const noexcept { return path_; }

  // Null handler: the indicator is set.
  [[nodiscard]] HandlerWork make_work(PyObject* table_object, const WebState& state, std::string_view method) const noexcept {
    HandlerTable& table = HandlerTable::of(table_object);
    const HandlerRoute& route = table.route(table.match().target);
    const HandlerKinds& kinds = table.kinds();
    auto* const type = reinterpret_cast<PyTypeObject*>(kinds.request_type.get());
    Ref params = table.make_params(gil_, table.match());
    Ref method_text = params ? method_of(gil_, state, method) : Ref();
    Ref path_text = method_text ? text_of(route) : Ref();
    Ref request = path_text ? Ref::steal(type->tp_alloc(type, 0)) : Ref();
    if (!request) return {};
    PyObject* const object = request.get();
    table.slot(object, RequestSlot::headers) = Ref::borrow(Py_None);
    table.slot(object, RequestSlot::query) = Ref::borrow(Py_None);
    table.slot(object, RequestSlot::receive) = Ref::borrow(Py_None);
    table.slot(object, RequestSlot::scope) = Ref::borrow(scope_.get());
    table.slot(object, RequestSlot::loads) = Ref::borrow(kinds.loads.get());
    table.slot(object, RequestSlot::state) = Ref::borrow(kinds.state.get());
    table.slot(object, RequestSlot::method) = std::move(method_text);
    table.slot(object, RequestSlot::path) = std::move(path_text);
    table.slot(object, RequestSlot::path_params) = std::move(params);
    table.slot(object, RequestSlot::body) = Ref::borrow(state.empty_bytes);
    return {Ref::borrow(route.handler.get()), std::move(request), Ref::borrow(scope_.get()), Ref::borrow(table_object)};
  }

 private:
  [[nodiscard]] Ref text_of(const HandlerRoute& route) const noexcept {
    if (decoded_) return Ref::borrow(decoded_.get());
    if (route.path) return Ref::borrow(route.path.get());
    return Ref::steal(PyUnicode_FromStringAndSize(path_.data(), static_cast<Py_ssize_t>(path_.size())));
  }

  Gil gil_;
  Ref scope_;
  Ref decoded_;            // null: the path needs no decoding
  std::string_view path_;  // of decoded_, or of the request
};

// The method of cxxloop/web/request.py: may_have_body().
bool may_have_body(const web::RequestHead& head) noexcept {
  return (head.method != "GET" && head.method != "HEAD") || head.framing != web::Framing::none;
}

std::string join(const std::vector<std::string_view>& methods) noexcept {
  std::string all;
  for (const std::string_view method : methods) {
    if (!all.empty()) all += ", ";
    all += method;
  }
  return all;
}

void serve_route(Gil gil, WebServer& server, PyObject* table, web::Exchange& exchange, const web::Request& request,
                 const Routed& routed) noexcept {
  HandlerWork work = routed.make_work(table, server.state(), request.head.method);
  if (!work.handler) return give_up(gil, server, exchange);
  HandlerTable& handlers = HandlerTable::of(table);
  const bool is_async = handlers.route(handlers.match().target).is_async;
  if (!may_have_body(request.head)) return run(gil, server, exchange, std::move(work), is_async);
  HandlerBody body(request.head, handlers.body_bytes_max());
  exchange.set_user(server.no_user());
  const HandlerBody::Outcome outcome = body.gather(gil, exchange);
  auto* const pending = new (std::nothrow) PendingHandler(server, exchange, std::move(work), std::move(body), is_async);
  if (pending == nullptr) {
    PyErr_NoMemory();
    return give_up(gil, server, exchange);
  }
  exchange.set_user(*pending);
  if (outcome != HandlerBody::Outcome::wait) pending->finish(gil, outcome);
}

}  // namespace

bool serve_handler(Gil gil, WebServer& server, PyObject* table, web::Exchange& exchange, const web::Request& request) noexcept {
  HandlerTable& handlers = HandlerTable::of(table);
  const web::RequestHead& head = request.head;
  if (!head.path.starts_with('/')) return false;
  const Routed routed(gil, server, request);
  if (!routed.is_valid()) {
    give_up(gil, server, exchange);
    return true;
  }
  const HandlerRouter::Found found = handlers.router().find(head.method, routed.path(), handlers.match());
  if (found == HandlerRouter::Found::route) {
    if (!handlers.route(handlers.match().target).is_native) return false;
    serve_route(gil, server, table, exchange, request, routed);
    return true;
  }
  if (found == HandlerRouter::Found::nothing && handlers.has_mounts()) return false;
  HandlerResponse response;
  std::string allow;
  if (found == HandlerRouter::Found::wrong_method) allow = join(HandlerRouter::allowed(handlers.match()));
  allow.empty() ? response.take_text(404, "Not Found") : response.take_text(405, "Method Not Allowed", allow);
  answer_text(gil, server, exchange, routed.scope(), response);
  return true;
}

}  // namespace cxxloop::python
