//! `twinlock`: encrypts files under two keys with two holders.
//!
//! `args` has the words that are typed, `settings` what they mean together with
//! the environment and the profile; each verb is a file in `verbs`, and how a
//! run ends is decided in `exit`. `docs/cli.md` is the page for users.
#![forbid(unsafe_code)]

mod args;
mod config;
mod console;
mod exit;
mod holders;
mod input;
mod list;
mod logs;
mod origin;
mod output;
mod pins;
mod process;
mod progress;
mod report;
mod settings;
mod tree;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, CommonArgs, Verb};
use config::Environment;
use console::Console;
use exit::Failure;
use report::Outcome;

/// What every verb gets.
struct App<'a> {
    common: &'a CommonArgs,
    console: Console,
    environment: Environment<'a>,
    hides_progress: bool,
}

impl App<'_> {
    /// True if progress is not to be shown even on a terminal.
    fn hides_progress(&self) -> bool {
        self.console.quiet || self.hides_progress
    }

    /// For one file of many, of which only all together are shown.
    fn without_progress(&self) -> Self {
        Self { hides_progress: true, ..*self }
    }
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return ExitCode::from(console::end_of_bad_args(&error)),
    };
    let console = Console {
        json: args.common.json,
        quiet: args.common.quiet,
        data_on_stdout: verbs::data_goes_to_stdout(&args.verb),
    };
    ExitCode::from(console.end(verbs::name(&args.verb), run(&args, console)))
}

fn run(args: &Args, console: Console) -> Result<Outcome, Failure> {
    logs::start(&args.common)?;
    process::forbid_core_dumps();
    process::handle_signals();
    let environment = |name: &str| std::env::var_os(name);
    let (common, environment) = (&args.common, &environment);
    let app = App { common, console, environment, hides_progress: false };
    match &args.verb {
        Verb::Config(args) => verbs::config::run(&app, args),
        Verb::Doctor(args) => verbs::doctor::run(&app, args),
        Verb::Init(args) => verbs::init::run(&app, args),
        Verb::Login(_) => verbs::login::log_in(&app),
        Verb::Logout(_) => verbs::login::log_out(&app),
        Verb::Keys(args) => verbs::keys::run(&app, args),
        Verb::Encrypt(args) => verbs::encrypt::run(&app, args),
        Verb::Decrypt(args) => verbs::decrypt::run(&app, args),
        Verb::Inspect(args) => verbs::inspect::run(args),
        Verb::Verify(args) => verbs::verify::run(&app, args),
        Verb::Prove(args) => verbs::prove::run(&app, args),
        Verb::Rewrap(args) => verbs::rewrap::run(&app, args),
        Verb::Reencrypt(args) => verbs::reencrypt::run(&app, args),
        Verb::Completions(args) => verbs::generate::completions(args),
        Verb::Man(args) => verbs::generate::man(args),
    }
}
