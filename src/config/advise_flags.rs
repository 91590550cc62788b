//! The command line of `tokencached-tool advise`.
//!
//! What is tried and what is said of it is for `tool/` to say.

use std::num::NonZero;
use std::path::PathBuf;

use clap::Args;

use super::simulation_flags::{distinct, each, memory, values};
use super::tool_flags::StatusServer;
use crate::tool::advise::{VALIDATION_COST_MS, from_trace};
use crate::tool::{Error, Target};

/// What does not go with a trace. Named beside `requires` too, which clap waives where there is a conflict.
const SERVERS: [&str; 2] = ["http", "admin"];

/// `advise`.
#[derive(Debug, Args)]
pub struct Advise {
    /// Take the advice from the trace in this file, and not from a running server
    #[arg(long, value_name = "FILE", conflicts_with_all = SERVERS)]
    pub trace: Option<PathBuf>,
    /// The server: at its --http, unless --admin says otherwise.
    #[command(flatten)]
    pub status: StatusServer,
    /// Memory of each unit's cache, in MiB, or with k, m or g: what there is now, and what else to try
    /// (default: what the trace was recorded with, or 64; and around it)
    #[arg(
        long,
        short,
        value_name = "SIZES",
        value_delimiter = ',',
        requires = "trace", conflicts_with_all = SERVERS
    )]
    pub memory: Vec<String>,
    /// keystonemiddleware's token_cache_time, in seconds: what it is now, and what else to try
    /// (default: what the trace was recorded with, or 300; and from 60 to 3600)
    #[arg(
        long,
        value_name = "SECONDS",
        value_delimiter = ',',
        requires = "trace", conflicts_with_all = SERVERS
    )]
    pub ttl: Vec<u32>,
    /// Units that the trace's requests are shared out to, each with a cache of its own (default: 1 for a
    /// recorded trace, 3 for one that was generated)
    #[arg(long, value_name = "N", requires = "trace", conflicts_with_all = SERVERS)]
    pub units: Option<u32>,
    /// Lengths of values: packed as tokencached keeps them, plain as they come, or bytes for all
    #[arg(
        long,
        value_name = "LENGTHS",
        default_value = "packed",
        requires = "trace", conflicts_with_all = SERVERS
    )]
    pub values: String,
    /// Seconds at the start of the trace that are replayed and not counted (default: as the trace was
    /// recorded, or 1800)
    #[arg(long, value_name = "S", requires = "trace", conflicts_with_all = SERVERS)]
    pub warm_up: Option<u32>,
    /// What a validation costs Keystone, in milliseconds of CPU (default: what the server takes it for; 100
    /// with a trace)
    #[arg(long, value_name = "MS")]
    pub validation_cost_ms: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show no progress; none is shown either where standard error is no terminal
    #[arg(long, short)]
    pub quiet: bool,
}

impl Advise {
    /// The server to ask where there is no trace; looks a name up, which may block.
    ///
    /// # Errors
    /// [`Error::Target`] if the address is none.
    pub fn server(&self) -> Result<Target, Error> {
        self.status.target_or_default()
    }

    /// What to try with a trace.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn options(&self) -> Result<from_trace::Options, Error> {
        Ok(from_trace::Options {
            memory_bytes: distinct(each(&self.memory, memory)?),
            ttl_seconds: distinct(self.ttl.clone()),
            units: self.units,
            warm_up_seconds: self.warm_up,
            values: values(self.values.trim())?,
            validation_cost_ms: self.validation_cost_ms.unwrap_or(VALIDATION_COST_MS),
            threads: std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
        })
    }
}
