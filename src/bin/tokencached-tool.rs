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
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tokencached::config::advise_flags::Advise;
use tokencached::config::load_flags::Load;
use tokencached::config::simulation_flags::{Format, Generate, Replay, Simulate};
use tokencached::config::tool_flags::{Command, Stats, ToolFlags, Top};
use tokencached::config::watch_flags::{Record, Watch};
use tokencached::config::{self, Action, Config, Machine, documents};
use tokencached::server::check_files;
use tokencached::tool::advise::{from_status, from_trace, trace_words};
use tokencached::tool::generate::generate;
use tokencached::tool::generate::scenario::{List, Scenario};
use tokencached::tool::load::compare;
use tokencached::tool::progress::Progress;
use tokencached::tool::simulate::Simulation;
use tokencached::tool::simulate::report::{page, records, table};
use tokencached::tool::trace::{self, Trace};
use tokencached::tool::{
    self, files, hold, idle, load, record, replay, signals, stats, status, top, watch,
};

fn main() -> ExitCode {
    match ToolFlags::parse().command {
        Command::CheckConfig { options } => check_config(options),
        Command::Stats(flags) => ended(print_stats(&flags)),
        Command::Top(flags) => ended(show_top(&flags)),
        Command::Watch(flags) => ended(print_events(&flags)),
        Command::Record(flags) => ended(record_trace(&flags)),
        Command::Load(flags) => ended(print_load(&flags)),
        Command::Generate(flags) => ended(write_trace(&flags)),
        Command::Simulate(flags) => ended(print_simulation(&flags)),
        Command::Replay(flags) => ended(print_replay(&flags)),
        Command::Advise(flags) => ended(print_advice(&flags)),
        Command::Documents { folder } => ended(write_documents(&folder)),
    }
}

fn check_config(options: Vec<OsString>) -> ExitCode {
    match config::load(options, &Machine::detect()) {
        Ok(Action::Print(text)) => say(text.trim_end()),
        Ok(Action::Run(config)) => {
            if let Err(error) = check_files(&config.server) {
                eprintln!("{}", config.blame(error.setting, &error.what, error.remedy));
                return ExitCode::from(config::EX_CONFIG);
            }
            say(verdict(&config).trim_end());
        }
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
    if let Some(target) = flags.status.target()? {
        let status = status::fetch(&target)?;
        match flags.json {
            true => say(status::json(&status)),
            false => say(status::Text(&status)),
        }
        return Ok(true);
    }
    let pairs = stats::fetch(&flags.server.target()?, flags.argument.as_deref())?;
    match flags.json {
        true => say(stats::json(&pairs)),
        false => say(stats::Table(&pairs)),
    }
    Ok(true)
}

fn show_top(flags: &Top) -> Result<bool, tool::Error> {
    top::run(&flags.options()?)?;
    Ok(true)
}

fn print_events(flags: &Watch) -> Result<bool, tool::Error> {
    let (target, options) = flags.options();
    watch::run(&target, &options, &mut io::stdout().lock())?;
    Ok(true)
}

fn record_trace(flags: &Record) -> Result<bool, tool::Error> {
    let ends = signals::ask_for_end("writing what was recorded; a second signal drops it")?;
    let report = record::run(&flags.options(), &ends)?;
    // Standard output may be where the trace went.
    eprint!("{report}");
    Ok(report.is_whole())
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
    let progress = Progress::new(flags.quiet);
    if let Some(comparison) = flags.comparison() {
        let ends = signals::ask_for_end("ending both servers; a second signal leaves them")?;
        progress.begin("comparing", 2 * comparison.rounds as u64);
        let tell = |bursts| progress.reach(bursts as u64);
        let compared = compare::run(&options, &comparison, &ends, tell)?;
        drop(progress);
        show(flags, &compared, compared.to_json());
        return Ok(compared.is_clean());
    }
    let duration = options.duration().unwrap_or_default();
    progress.begin(
        "driving",
        options.requests.unwrap_or(duration.as_millis() as u64),
    );
    let report = load::run(&options, |answered, elapsed| {
        let done = options.requests.map(|_| answered);
        progress.reach(done.unwrap_or(elapsed.as_millis() as u64));
        let rate = answered as f64 / elapsed.as_secs_f64();
        progress.say(&format!("{rate:.0} requests/s"));
    })?;
    drop(progress);
    show(flags, &report, report.to_json());
    Ok(report.is_clean())
}

fn write_trace(flags: &Generate) -> Result<bool, tool::Error> {
    let scenario = flags.scenario()?;
    let Some(path) = flags.output.as_ref().filter(|_| !flags.list) else {
        say(List(&scenario));
        return Ok(true);
    };
    files::check(path)?;
    let progress = Progress::new(flags.quiet);
    let trace = made(&scenario, flags.seed, &progress);
    trace::file::write(path, &trace)?;
    drop(progress);
    // Standard output may be where the trace went.
    eprintln!(
        "{}: {} requests with {} tokens",
        path.display(),
        trace.requests.len(),
        trace.tokens.len()
    );
    Ok(true)
}

fn made(scenario: &Scenario, seed: u64, progress: &Progress) -> Trace {
    let what = format!("generating {} {seed}", scenario.name);
    progress.begin(&what, scenario.requests_about() as u64);
    generate(scenario, seed, |requests| progress.reach(requests))
}

fn print_simulation(flags: &Simulate) -> Result<bool, tool::Error> {
    let options = flags.options()?;
    let scenarios = flags.scenarios()?;
    flags.check_files()?;
    flags.written().try_for_each(files::check)?;
    flags
        .trace
        .iter()
        .try_for_each(|path| trace::file::check(path))?;
    let progress = Progress::new(flags.quiet);
    let mut simulation = Simulation::new(&options);
    for path in &flags.trace {
        let trace = trace::file::read(path)?;
        simulation.replay(&trace, &progress)?;
    }
    for (scenario, seed) in scenarios {
        let trace = made(&scenario, seed, &progress);
        simulation.replay(&trace, &progress)?;
    }
    drop(progress);
    let report = simulation.report(command_line());
    let text = match flags.format {
        Format::Table => table::text(&report),
        Format::Markdown => table::markdown(&report),
        Format::Csv => records::csv(&report),
        Format::Json => records::json(&report),
    };
    match &flags.output {
        Some(path) if !files::is_standard_output(path) => {
            files::replace(path, |file| file.write_all(text.as_bytes()))?;
        }
        _ => say(text),
    }
    if let Some(path) = &flags.report {
        files::replace(path, |file| file.write_all(page::html(&report).as_bytes()))?;
    }
    Ok(true)
}

fn print_replay(flags: &Replay) -> Result<bool, tool::Error> {
    let trace = trace::file::read(&flags.trace)?;
    let options = flags.options(&trace.about)?;
    say(replay::run(&trace, &options)?);
    Ok(true)
}

fn print_advice(flags: &Advise) -> Result<bool, tool::Error> {
    let Some(path) = &flags.trace else {
        let status = status::fetch(&flags.server()?)?;
        let advice = from_status::advise(&status, flags.validation_cost_ms);
        match flags.json {
            true => say(advice.to_json()),
            false => say(from_status::Text(&advice)),
        }
        return Ok(true);
    };
    let options = flags.options()?;
    let trace = trace::file::read(path)?;
    let progress = Progress::new(flags.quiet);
    let advice = from_trace::advise(&trace, &options, &progress)?;
    drop(progress);
    match flags.json {
        true => say(advice.to_json()),
        false => say(trace_words::Text(&advice)),
    }
    Ok(true)
}

fn write_documents(folder: &Path) -> Result<bool, tool::Error> {
    std::fs::create_dir_all(folder)
        .map_err(|why| tool::Error::File(folder.to_owned(), why.to_string()))?;
    for document in documents::all() {
        let path = folder.join(document.name);
        files::replace(&path, |file| file.write_all(&document.content))?;
    }
    Ok(true)
}

/// What was typed, quoted so that it can be typed again, without what only says where the report goes.
fn command_line() -> String {
    const PLACES: [&str; 3] = ["--output", "-o", "--report"];
    let mut shown = vec!["tokencached-tool".to_owned()];
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        let (name, joined) = match word.split_once('=') {
            Some((name, _)) if word.starts_with("--") => (name, true),
            _ => (&*word, false),
        };
        if !PLACES.contains(&name) {
            shown.push(quoted(&word));
        } else if !joined {
            words.next();
        }
    }
    shown.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn show(flags: &Load, report: &impl Display, json: String) {
    if flags.json { say(json) } else { say(report) }
}

/// Prints with one newline at the end. A reader that went away is no error; anything else that keeps
/// the text from being read ends the program.
fn say(text: impl Display) {
    let text = text.to_string();
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write to standard output: {why}");
            std::process::exit(1);
        }
        _ => {}
    }
}
