// SPDX-License-Identifier: MIT
//
// web/python/asgi_exchange.cc: the request's side, and the ends.
#include "web/python/asgi_exchange.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/clock.h"
#include "web/python/web_server.h"

namespace cxxloop::python {

void AsgiExchange::open(web::Exchange& exchange, Ref scope) noexcept {
  CXL_ASSERT(exchange_ == nullptr);
  Py_INCREF(object_);  // on_end() drops it
  exchange_ = &exchange;
  exchange.set_user(*this);
  if (!scope) return;
  scope_ = std::move(scope);
  begun_ns_ = monotonic_ns();
}

// --- receive() ------------------------------------------------------------------------------------------------

// Everything at hand, up to a bound: an application that gets many small pieces pays for each event. The pieces stay where
// they are until they are all known, so that each byte is copied once.
AsgiExchange::Gathered AsgiExchange::gather_body(Gil) noexcept {
  constexpr size_t event_bytes_max = 256 * 1024;
  constexpr size_t pieces_max = 64;
  using Kind = web::BodyPart::Kind;
  Gathered gathered;
  std::array<std::string_view, pieces_max> pieces;
  size_t count = 0;
  size_t bytes = 0;
  while (count < pieces_max && bytes < event_bytes_max) {
    const web::BodyPart part = exchange_->take_body();
    gathered.is_end = part.kind == Kind::end;
    gathered.is_lost = part.kind == Kind::lost;
    if (part.kind != Kind::data) break;
    pieces[count++] = part.bytes;
    bytes += part.bytes.size();
  }
  if (count == 0) return gathered;
  gathered.bytes = Ref::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(bytes)));
  if (!gathered.bytes) return {};
  char* at = PyBytes_AS_STRING(gathered.bytes.get());
  for (const std::string_view piece : std::span(pieces).first(count)) at = std::copy(piece.begin(), piece.end(), at);
  return gathered;
}

Ref AsgiExchange::make_body_event(Gil, const Gathered& gathered) noexcept {
  const WebState& state = server_.state();
  Ref event = Ref::steal(PyDict_Copy(state.body_event));
  if (event && gathered.bytes && PyDict_SetItem(event.get(), state.name(Name::body), gathered.bytes.get()) < 0) return {};
  if (event && !gathered.is_end && PyDict_SetItem(event.get(), state.name(Name::more_body), Py_True) < 0) return {};
  is_body_taken_ = gathered.is_end;
  return event;
}

Ref AsgiExchange::make_disconnect_event(Gil) noexcept {
  return Ref::steal(PyDict_Copy(server_.state().disconnect_event));
}

// After the whole body there is nothing to say until the client goes (ASGI: "http.disconnect").
Ref AsgiExchange::take_event(Gil gil) noexcept {
  if (exchange_ == nullptr) return make_disconnect_event(gil);
  if (is_body_taken_) return exchange_->is_disconnected() ? make_disconnect_event(gil) : Ref();
  const Gathered gathered = gather_body(gil);
  if (PyErr_Occurred() != nullptr) return {};
  if (gathered.bytes || gathered.is_end) return make_body_event(gil, gathered);
  return gathered.is_lost ? make_disconnect_event(gil) : Ref();
}

// --- the ends -------------------------------------------------------------------------------------------------

const char* AsgiExchange::end_unfinished(bool) noexcept {
  if (exchange_ == nullptr) return nullptr;
  const bool has_begun = phase_ != Phase::start;
  // An application that was told that its client has gone owes no response.
  const bool is_owed = !exchange_->is_disconnected();
  exchange_->abort();
  CXL_ASSERT(exchange_ == nullptr);
  if (!is_owed) return nullptr;
  return has_begun ? "ASGI callable returned without completing response."
                   : "ASGI callable returned without starting response.";
}

void AsgiExchange::on_drained() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(object_);
  if (is_sending_file() && !exchange_->is_full()) finish_file(gil);
  wake(senders_);
}

void AsgiExchange::on_end(const web::Ending& ending) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref reference_of_exchange = Ref::steal(object_);
  exchange_ = nullptr;
  file_.reset();
  wake(receivers_);
  wake(senders_);
  const Ref scope = scope_.take();
  if (!scope || ending.status == 0) return;
  // Runs Python: the access log may do anything but bring the exchange back.
  server_.tell_access(gil, scope.get(), ending, monotonic_ns() - begun_ns_);
}

}  // namespace cxxloop::python
