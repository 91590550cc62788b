//! The daemon: arguments to a `Config`, and that to the server; on SIGHUP the same again.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokencached::config::{self, Action, Config, EX_CONFIG, EX_OSERR, Machine};
use tokencached::{regular_file, server};

/// Longest configuration file that is read again.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn main() -> ExitCode {
    let source = Source {
        args: std::env::args_os().skip(1).collect(),
        machine: Machine::detect(),
        folder: std::env::current_dir().unwrap_or_default(),
    };
    match config::load(source.args.clone(), &source.machine) {
        Ok(Action::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Action::Run(config)) => serve(Arc::new(config), source),
        Err(error) => {
            eprintln!("tokencached: {error}");
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// What the configuration was read from, to read it again.
struct Source {
    args: Vec<OsString>,
    /// As it was at the start: a process that has given root up is still one that root started.
    machine: Machine,
    /// Where relative paths begin: in the background the working folder is another one.
    folder: PathBuf,
}

impl Source {
    /// What is read again must not keep a running server waiting.
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let (bytes, _) = regular_file::read(&self.folder.join(path), FILE_BYTES_MAX)?;
        Ok(bytes)
    }
}

fn serve(config: Arc<Config>, source: Source) -> ExitCode {
    server::log::init(&config.engine.verbosity);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for note in &config.notes {
        tracing::info!("{note}");
    }
    let first = Arc::clone(&config);
    let reload = move || {
        let renewed = first.renewed(source.args.clone(), &source.machine, |path| {
            source.read(path)
        });
        renewed.map_err(|error| error.to_string())
    };
    let (server, engine) = (config.server.clone(), config.engine.clone());
    match server::run(server, engine, &config.store, Arc::new(reload)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "tokencached: {}",
                config.blame(error.setting, &error.what, error.remedy)
            );
            if !error.passing {
                return ExitCode::from(EX_CONFIG);
            }
            server::before_another_start();
            ExitCode::from(EX_OSERR)
        }
    }
}
