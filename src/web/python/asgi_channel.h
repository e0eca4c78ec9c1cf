// SPDX-License-Identifier: MIT
//
// web/python/asgi_channel.h: what receive() and send() of one call of an application act on: a request or a WebSocket.
//
// receive() and send() are asgi_op.h: an op looks here whether it must wait, and is woken from here.
// Thread: loop thread.  Owns: nothing; lies in, or belongs to, the Python object of the call.  Dies: with that object.
#pragma once

#include "base/intrusive_list.h"
#include "web/python/asgi_op.h"

namespace cxxloop::python {

class WebServer;

class AsgiChannel {
 public:
  // --- for receive() ---------------------------------------------------------------------------------------------
  // The next event. Null without the indicator: there is none yet, and the ops of wait_to_receive() are woken for it.
  [[nodiscard]] virtual Ref take_event(Gil gil) noexcept = 0;
  void wait_to_receive(AsgiOp& op) noexcept { receivers_.push_back(op); }

  // --- for send() ------------------------------------------------------------------------------------------------
  // True: the client does not read, or a file is on its way; the ops of wait_to_send() are woken.
  [[nodiscard]] virtual bool is_full() const noexcept = 0;
  [[nodiscard]] virtual bool is_sending_file() const noexcept = 0;
  void wait_to_send(AsgiOp& op) noexcept { senders_.push_back(op); }
  // Takes a message of the application. False: the indicator is set. Runs Python: the message's own methods.
  [[nodiscard]] bool send(Gil gil, PyObject* message) noexcept;

  // --- for the call ----------------------------------------------------------------------------------------------
  // True exactly while the core may call this, and owns a reference to the object.
  [[nodiscard]] virtual bool is_open() const noexcept = 0;
  // The application has returned or failed. Ends what it has not ended; null: it had, else what it has left out.
  virtual const char* end_unfinished(bool has_failed) noexcept = 0;

 protected:
  // `object`: the Python object of the call.
  AsgiChannel(PyObject* object, WebServer& server) noexcept : object_(object), server_(server) {}
  ~AsgiChannel() = default;

  // As send(), of a dict.
  [[nodiscard]] virtual bool take_message(Gil gil, PyObject* message) noexcept = 0;
  // Each op that is woken looks again, and waits again if another one was faster.
  void wake(IntrusiveList<AsgiOp>& ops) noexcept;

  PyObject* const object_;
  WebServer& server_;
  IntrusiveList<AsgiOp> receivers_;
  IntrusiveList<AsgiOp> senders_;

 private:
  bool is_in_send_ = false;  // True exactly while a message is taken
};

}  // namespace cxxloop::python
