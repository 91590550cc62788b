//! The daemon: arguments to a `Config`, and that to the server.

use std::process::ExitCode;

use tokencached::config::{self, Action, Config, EX_CONFIG, Machine};
use tokencached::server;

fn main() -> ExitCode {
    match config::load(std::env::args_os().skip(1), &Machine::detect()) {
        Ok(Action::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Action::Run(config)) => serve(config),
        Err(error) => {
            eprintln!("tokencached: {error}");
            ExitCode::from(EX_CONFIG)
        }
    }
}

fn serve(config: Config) -> ExitCode {
    server::log::init(&config.engine.verbosity);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for note in &config.notes {
        tracing::info!("{note}");
    }
    let served = server::run(config.server.clone(), config.engine.clone(), &config.store);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "tokencached: {}",
                config.blame(error.setting, &error.what, error.remedy)
            );
            ExitCode::from(EX_CONFIG)
        }
    }
}
