pub mod clock;
pub mod config;
pub mod engine;
pub mod protocol;
pub mod server;
pub mod stats;
pub mod store;
pub mod tool;
