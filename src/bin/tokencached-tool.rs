//! The operator's tool: checks a configuration, asks a server for its
//! statistics, and measures what its requests cost.
//!
//! Thin: `config::tool_flags` reads the command line, `tool` and `config` do
//! the work; here it is printed, and turned into an exit status: 0 if all went
//! well, 1 if something failed or a value was wrong, 2 for a wrong command
//! line, 78 for a configuration that cannot be used.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tokencached::config::simulation_flags::{Generate, Simulate};
use tokencached::config::tool_flags::{Command, Load, Stats, ToolFlags};
use tokencached::config::{self, Action, Config, Machine};
use tokencached::tool::generate::{generate, scenario::List};
use tokencached::tool::{self, hold, idle, load, simulate, stats, trace};

fn main() -> ExitCode {
    match ToolFlags::parse().command {
        Command::CheckConfig { options } => check_config(options),
        Command::Stats(flags) => ended(print_stats(&flags)),
        Command::Load(flags) => ended(print_load(&flags)),
        Command::Generate(flags) => ended(write_trace(&flags)),
        Command::Simulate(flags) => ended(print_simulation(&flags)),
    }
}

fn check_config(options: Vec<OsString>) -> ExitCode {
    match config::load(options, &Machine::detect()) {
        Ok(Action::Print(text)) => say(text.trim_end()),
        Ok(Action::Run(config)) => say(verdict(&config).trim_end()),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(config::EX_CONFIG);
        }
    }
    ExitCode::SUCCESS
}

fn verdict(config: &Config) -> String {
    let warnings = config
        .warnings
        .iter()
        .map(|line| format!("warning: {line}\n"));
    let notes = config.notes.iter().map(|line| format!("note: {line}\n"));
    let remarks: String = warnings.chain(notes).collect();
    format!("{remarks}configuration is usable\n")
}

/// Whether what came back was right, or why nothing did.
fn ended(outcome: Result<bool, tool::Error>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn print_stats(flags: &Stats) -> Result<bool, tool::Error> {
    let pairs = stats::fetch(&flags.server.target()?, flags.argument.as_deref())?;
    say(stats::Table(&pairs));
    Ok(true)
}

fn print_load(flags: &Load) -> Result<bool, tool::Error> {
    let options = flags.options()?;
    if flags.hold {
        let report = hold::run(&options)?;
        show(flags, &report, report.to_json());
        return Ok(report.is_clean());
    }
    if let Some(connections) = flags.idle {
        let report = idle::run(&options, connections, flags.get_first)?;
        show(flags, &report, report.to_json());
        return Ok(report.is_clean());
    }
    let report = load::run(&options)?;
    show(flags, &report, report.to_json());
    Ok(report.is_clean())
}

fn write_trace(flags: &Generate) -> Result<bool, tool::Error> {
    let scenario = flags.scenario()?;
    let Some(path) = flags.output.as_ref().filter(|_| !flags.list) else {
        say(List(&scenario));
        return Ok(true);
    };
    let trace = generate(&scenario, flags.seed, |_| ());
    trace::file::write(path, &trace)?;
    say(format!(
        "{}: {} requests with {} tokens",
        path.display(),
        trace.requests.len(),
        trace.tokens.len()
    ));
    Ok(true)
}

fn print_simulation(flags: &Simulate) -> Result<bool, tool::Error> {
    let options = flags.options()?;
    for (scenario, seed) in flags.scenarios()? {
        let trace = generate(&scenario, seed, |_| ());
        for row in simulate::run(&trace, &options, &|_| ())? {
            println!(
                "{:12} {:3} {:8} ttl {:5} {:5} MiB {:32} {:6.2} ({:.1}; attack {:.1}) lasting {:.3}   {:.1} M/s",
                row.scenario,
                row.seed,
                row.values,
                row.ttl_seconds,
                row.memory_bytes >> 20,
                row.policy,
                row.hit_percent(),
                row.validations_per_second(),
                row.attack_validations_per_second(),
                row.tally.lasting_hits as f64 / row.tally.lasting_requests.max(1) as f64,
                row.replayed_per_second / 1e6
            );
        }
    }
    Ok(true)
}

fn show(flags: &Load, report: &impl Display, json: String) {
    if flags.json { say(json) } else { say(report) }
}

/// Prints with one newline at the end. A reader that went away is no error.
fn say(text: impl Display) {
    let text = text.to_string();
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
}
