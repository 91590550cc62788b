//! The daemon: arguments to a `Config`, and that to the server; on SIGHUP the same again.
//!
//! What the process before has left is taken before anything is opened. If the configuration cannot be used, and that process has
//! left one that could, the server goes on with it.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use tokencached::config::{Action, Config, EX_CONFIG, EX_OSERR, Machine, Record, Source};
use tokencached::server;
use tokencached::server::Origin;
use tokencached::server::handover::{Inherited, Program};

fn main() -> ExitCode {
    if let Err(error) = server::begin_process() {
        eprintln!("tokencached: the process cannot be kept to itself: {error}");
        return ExitCode::from(EX_OSERR);
    }
    // While no descriptor is this process's own.
    let inherited = Inherited::take();
    let source = Source::of_this_process();
    let mut daemon = Daemon {
        // Later it is the file that a package has put in its place.
        path: std::env::current_exe().unwrap_or_default(),
        source,
        machine: Machine::detect(),
        verbosity: Arc::default(),
        inherited,
    };
    daemon.run()
}

/// What stays the same, whatever the configuration.
struct Daemon {
    path: std::path::PathBuf,
    source: Source,
    /// As it was at the start: a process that has given root up is still one that root started.
    machine: Machine,
    /// The one that the log's filter looks at.
    verbosity: Arc<AtomicU32>,
    inherited: Inherited,
}

/// Why nothing was served.
struct Failed {
    /// One line.
    line: String,
    /// It may be over by itself.
    passing: bool,
}

impl Failed {
    fn for_good(why: impl ToString) -> Failed {
        Failed {
            line: why.to_string(),
            passing: false,
        }
    }
}

impl Daemon {
    fn run(&mut self) -> ExitCode {
        let failed = match self.source.load(&self.machine) {
            Ok((Action::Print(text), _)) => {
                print!("{text}");
                return ExitCode::SUCCESS;
            }
            Ok((Action::Run(config), record)) => self.serve(config, &record),
            Err(error) => Err(Failed::for_good(error)),
        };
        let Err(failed) = failed else {
            return ExitCode::SUCCESS;
        };
        eprintln!("tokencached: {}", failed.line);
        if self.go_on(&failed.line) {
            return ExitCode::SUCCESS;
        }
        if !failed.passing {
            return ExitCode::from(EX_CONFIG);
        }
        server::before_another_start();
        ExitCode::from(EX_OSERR)
    }

    /// Serves with the configuration of the process before, if it has left one that can be used. `first` is
    /// what was wrong with this process's own, and not told in full twice.
    fn go_on(&mut self, first: &str) -> bool {
        let Some(bytes) = self.inherited.config() else {
            return false;
        };
        server::log::init(&self.verbosity);
        let served = bytes.map_err(Failed::for_good).and_then(|bytes| {
            let record = Record::from_bytes(&bytes).map_err(Failed::for_good)?;
            // Without it, only what names its files from the root works.
            let _ = std::env::set_current_dir(record.folder());
            match record.load(&self.machine) {
                Ok(Action::Run(config)) => {
                    tracing::warn!(
                        "goes on with the last good configuration, of the process before; mend this one and restart"
                    );
                    self.serve(config, &record)
                }
                Ok(Action::Print(_)) => Err(Failed::for_good("the last good configuration starts no server")),
                Err(error) => Err(Failed::for_good(error)),
            }
        });
        if let Err(failed) = &served {
            let again = match failed.line == first {
                true => "it is wrong with the last good configuration too",
                false => &failed.line,
            };
            eprintln!("tokencached: {again}");
        }
        served.is_ok()
    }

    fn serve(&mut self, mut config: Config, record: &Record) -> Result<(), Failed> {
        self.verbosity.store(config.verbosity.into(), Relaxed);
        config.engine.verbosity = Arc::clone(&self.verbosity);
        server::log::init(&self.verbosity);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for note in &config.notes {
            tracing::info!("{note}");
        }
        let config = Arc::new(config);
        let (first, source, machine) = (
            Arc::clone(&config),
            self.source.clone(),
            self.machine.clone(),
        );
        let reload = move || {
            let renewed =
                source.again(|args, read| first.renewed(args, &machine, |path| read(path)));
            let (mut fresh, record) = renewed.map_err(|error| error.to_string())?;
            fresh.record = record.to_bytes();
            Ok(fresh)
        };
        let origin = Origin {
            program: Program {
                path: self.path.clone(),
                args: self.source.args.clone(),
                folder: self.source.folder.clone(),
            },
            reload: Arc::new(reload),
            record: record.to_bytes(),
        };
        let (server, engine) = (config.server.clone(), config.engine.clone());
        let served = server::run(server, engine, &config.store, origin, &mut self.inherited);
        served.map_err(|error| {
            let line = config.blame(error.setting, &error.what, error.remedy);
            Failed {
                line: line.to_string(),
                passing: error.passing,
            }
        })
    }
}
