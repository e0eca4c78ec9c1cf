// SPDX-License-Identifier: MIT
//
// benchmarks/net/echo_client.cc: loads an echo server, checks every byte, reports rate, latency and the server's CPU as one JSON line.

#include "load_connection.h"
#include "load_run.h"

int main(int argc, char** argv) { return cxxloop::benchmarks::run_load<cxxloop::benchmarks::LoadConnection>(argc, argv); }
