//! The running daemon, from outside: what a client, an operator and an attacker can do to it.
//!
//! Each module protects one promise, named in its header; the tests are named after the behaviour.
//! None measures time. What is bounded is bytes, CPU time and counts.

mod access;
mod admin;
mod auth;
mod binary;
mod budget;
mod commands;
mod connections;
mod counted;
mod crash;
mod handover;
mod http;
mod load;
mod logs;
mod manager;
mod metrics;
mod privileges;
mod replace;
mod restart;
mod services;
mod sockets;
mod start;
mod stop;
mod tls;
mod values;

#[path = "../common/binary_client.rs"]
mod binary_client;

#[path = "../common/corpus.rs"]
mod corpus;

#[path = "../common/daemon.rs"]
mod daemon;

#[path = "../common/fd_store.rs"]
mod fd_store;
