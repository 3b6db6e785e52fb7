//! The command line: `wsgate [serve]`, `wsgate config check|example|reference`.
//!
//! Flags derive from the table. clap finds out which were given; their values are
//! checked like those of any other layer.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::build::{Machine, build};
use super::error::ConfigError;
use super::layers::{FILE_DEFAULT, FILE_VARIABLE, Layers};
use super::setting::{Setting, by_section};
use super::table::SETTINGS;
use super::validate::validate;
use super::value::{Kind, Unit};
use super::{Config, example};

const EXAMPLES: &str = "\
Examples:
  wsgate                               clients on port 8000, the API on 8001
  wsgate --listen 127.0.0.1:9000 --shards 2
  wsgate config example > wsgate.toml  a file with every option, to start from
  wsgate config check                  what is in force, and who said so; whether certificates can be used
";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the gateway.
    Serve(Box<Config>),
    /// Print this, look whether the files that the configuration names can be used, and exit.
    Check(Box<Config>, String),
    /// Print this on standard output and exit with 0.
    Print(String),
}

/// What a configuration depends on besides the command line.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where `wsgate.toml` and relative paths are looked for.
    pub directory: PathBuf,
    /// All environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// What `auto` is resolved with.
    pub machine: Machine,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        Self { directory: PathBuf::new(), environment: std::env::vars_os().collect(), machine: Machine::here() }
    }
}

/// Reads what the command line asks for, with everything else that it depends on handed
/// in.
///
/// # Errors
/// Anything wrong in it, and the text of `--help` and `--version`: call
/// [`ConfigError::exit`].
pub fn parse_in(args: impl IntoIterator<Item = OsString>, surroundings: &Surroundings) -> Result<Command, ConfigError> {
    Ok(match read(args, surroundings)? {
        Asked::Serve(_, config) => Command::Serve(config),
        Asked::Check(config, text) => Command::Check(config, text),
        Asked::Print(text) => Command::Print(text),
    })
}

/// What the command line asks for, with what the configuration was made of.
pub(super) enum Asked {
    Serve(Layers, Box<Config>),
    Check(Box<Config>, String),
    Print(String),
}

pub(super) fn read(
    args: impl IntoIterator<Item = OsString>,
    surroundings: &Surroundings,
) -> Result<Asked, ConfigError> {
    let root = command().try_get_matches_from(args)?;
    // Flags may stand before and after each subcommand.
    let mut path = Vec::new();
    let mut levels = vec![&root];
    while let Some((name, matches)) = levels.last().and_then(|level| level.subcommand()) {
        path.push(name);
        levels.push(matches);
    }
    match path.as_slice() {
        ["config", "example"] => Ok(Asked::Print(example::sample_file())),
        ["config", "reference"] => Ok(Asked::Print(example::reference())),
        ["config", "check"] => {
            let (layers, config) = load(&levels, surroundings)?;
            let text = example::in_force(&layers, &config);
            Ok(Asked::Check(Box::new(config), text))
        }
        _ => {
            let (layers, config) = load(&levels, surroundings)?;
            Ok(Asked::Serve(layers, Box::new(config)))
        }
    }
}

/// Parse first, validate second, build last.
fn load(levels: &[&ArgMatches], surroundings: &Surroundings) -> Result<(Layers, Config), ConfigError> {
    let named = levels.iter().rev().find_map(|level| level.try_get_one::<PathBuf>("config").ok()?.cloned());
    let variable = surroundings.environment.iter().find(|(name, path)| name == FILE_VARIABLE && !path.is_empty());
    let named = named.or_else(|| variable.map(|(_, path)| PathBuf::from(path)));

    let mut layers = Layers::defaults();
    layers.apply_file(named, &surroundings.directory)?;
    layers.apply_environment(&surroundings.environment)?;
    for level in levels {
        for setting in SETTINGS {
            if let Ok(Some(values)) = level.try_get_many::<OsString>(setting.key) {
                layers.apply_flag(setting, values)?;
            }
        }
    }
    validate(&layers)?;
    let config = build(&layers, &surroundings.machine);
    Ok((layers, config))
}

/// The grammar of the command line.
pub fn command() -> clap::Command {
    let config = clap::Command::new("config")
        .about("Print what is in force, or which options there are")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            clap::Command::new("check")
                .about("Check the configuration and print what is in force, and who said so")
                .args(flags()),
        )
        .subcommand(clap::Command::new("example").about("Print a wsgate.toml with every option and its default"))
        .subcommand(clap::Command::new("reference").about("Print the documentation of every option, as Markdown"));
    clap::Command::new("wsgate")
        .version(env!("CARGO_PKG_VERSION"))
        .about("wsgate, a WebSocket fan-out gateway: one publish, every subscriber, in order")
        .before_help(EXAMPLES)
        .help_template("{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}")
        .override_usage("wsgate [serve] [OPTIONS]\n       wsgate config <check|example|reference>")
        .after_help("-h lists the usual options, --help all of them.")
        .after_long_help(without_flag())
        .max_term_width(80)
        .args(flags())
        .subcommand(clap::Command::new("serve").about("Run the gateway (the same as no command)").args(flags()))
        .subcommand(config)
}

/// A flag for each option, and `--config`.
fn flags() -> impl Iterator<Item = Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(format!("The file with options [default: {FILE_DEFAULT}, if it is there]"))
        .long_help(format!(
            "The file with options; unknown keys in it are refused.\n\
             [default: {FILE_DEFAULT}, if it is there] [environment: {FILE_VARIABLE}]"
        ));
    std::iter::once(file).chain(FLAGS.iter().map(|(setting, flag)| {
        let default = setting.default_as_toml();
        let default = default.trim_matches('"');
        Arg::new(setting.key)
            .long(flag.as_str())
            .value_name(value_name(setting))
            .value_parser(OsStringValueParser::new())
            .action(if setting.kind.is_list() { ArgAction::Append } else { ArgAction::Set })
            .help(format!("{} [default: {default}]", setting.help.trim_end_matches('.')))
            .long_help(format!(
                "{} {}\nTakes {}.\n[default: {default}] [environment: {}]",
                setting.help,
                setting.reason,
                setting.allowed(),
                setting.variable(),
            ))
            .help_heading(Some(setting.section()).filter(|section| !section.is_empty()))
            .hide_short_help(!setting.section().is_empty())
    }))
}

/// The options that help cannot list, since they have no flag.
fn without_flag() -> String {
    let settings = SETTINGS.iter().filter(|setting| setting.flag().is_none());
    let line = |setting: &Setting| {
        format!("{}: {} No flag; set it in the file or by {}.", setting.key, setting.help, setting.variable())
    };
    settings.map(line).collect::<Vec<_>>().join("\n")
}

/// Every option that has a flag, with the flag's name; clap wants it to stay.
static FLAGS: LazyLock<Vec<(&Setting, String)>> = LazyLock::new(|| {
    let settings = by_section().flat_map(|(_, _, settings)| settings);
    settings.filter_map(|setting| Some((setting, setting.flag()?))).collect()
});

fn value_name(setting: &Setting) -> &'static str {
    match setting.kind {
        Kind::Choice(_) => "WORD",
        Kind::Address => "ADDRESS",
        Kind::Whole { unit: Unit::Count, .. } => "N",
        Kind::Whole { unit: Unit::Bytes, .. } => "BYTES",
        Kind::Whole { unit: Unit::Milliseconds, .. } => "MS",
        Kind::Switch => "BOOL",
        Kind::Listeners => "ADDRESSES",
        Kind::Networks { .. } | Kind::Subset(_) | Kind::Hosts { .. } | Kind::Policies | Kind::Certificates => "LIST",
        Kind::Secret => "SECRET",
    }
}
