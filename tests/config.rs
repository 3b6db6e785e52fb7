//! Configuration from the outside: what is given, what comes of it, what is printed.
#![cfg(feature = "server")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use wsgate::config::cli::{Command, Surroundings, command, parse_in};
use wsgate::config::{
    Config, ConfigError, FILE_VARIABLE, Io, Kind, LogLevel, Machine, Mode, Reading, SETTINGS, Setting,
};

const MACHINE: Machine = Machine { parallelism: 3, files_max: Some(20_000), files_of_each_shard: false };
const KEY: &str = "0123456789abcdef-never-shown";

/// Everything outside the command line, in a directory of its own.
struct World(Surroundings);

impl World {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        Self(Surroundings { directory, environment: Vec::new(), machine: MACHINE })
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.0.directory.join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.0.environment.push((name.into(), value.into()));
        self
    }

    fn run(&self, line: &str) -> Result<Command, ConfigError> {
        let args = ["wsgate"].into_iter().chain(line.split_whitespace()).map(OsString::from);
        parse_in(args, &self.0)
    }

    fn serve(&self, line: &str) -> Config {
        match self.run(line).unwrap_or_else(|error| panic!("{error}")) {
            Command::Serve(config) => *config,
            Command::Check(_, text) | Command::Print(text) => panic!("{text}"),
        }
    }

    fn print(&self, line: &str) -> String {
        match self.run(line).unwrap_or_else(|error| panic!("{error}")) {
            Command::Check(_, text) | Command::Print(text) => text,
            Command::Serve(config) => panic!("{config:?}"),
        }
    }

    fn refusal(&self, line: &str) -> String {
        match self.run(line) {
            Err(error) => error.to_string(),
            Ok(done) => panic!("not refused: {done:?}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.directory);
    }
}

fn flag(setting: &Setting) -> String {
    format!("--{}", setting.flag().expect("this option has a flag"))
}

/// The lines to write that a refusal prints after its reason.
fn lines_to_write(error: ConfigError) -> String {
    match error {
        ConfigError::Undecided { lines, .. } => lines,
        other => panic!("{other}"),
    }
}

#[test]
fn without_anything_given_the_defaults_serve_loopback_in_development_mode() {
    let config = World::new().serve("");
    assert_eq!(config.mode, Mode::Development);
    assert_eq!(
        (config.listen.clone(), config.admin.to_string()),
        (vec!["127.0.0.1:8000".parse().unwrap()], "127.0.0.1:8001".into())
    );
    assert_eq!((config.shards, config.io, config.log), (3, Io::Epoll, LogLevel::Info));
    assert_eq!(config.limits.connections_max, 20_000 - 256);
    assert_eq!(config.limits.queue_bytes_max, 1024 * 1024);
    assert_eq!(config.timeouts.ping_interval.as_millis(), 25_000);
    assert!(config.security.check_host && config.security.anonymous_subscribe && config.security.anonymous_publish);
    assert!(config.echo && config.greeting && config.api_key.is_none());
    let here = Config::default();
    assert_eq!(Config { shards: 3, limits: config.limits.clone(), ..here }, config);
}

#[test]
fn auto_stays_in_its_range_on_odd_machines() {
    let mut world = World::new();
    world.0.machine = Machine { parallelism: 1000, files_max: Some(100), files_of_each_shard: false };
    let config = world.serve("");
    assert_eq!((config.shards, config.limits.connections_max), (64, 50));
    // Each ring has as many sockets as a process may open files.
    assert_eq!(world.serve("--io io_uring --shards 3").limits.connections_max, 300);
    world.0.machine.files_of_each_shard = true;
    assert_eq!(world.serve("--shards 3").limits.connections_max, 150);
    world.0.machine.files_max = None;
    assert_eq!(world.serve("").limits.connections_max, 16_777_216);
}

#[test]
fn flags_go_before_environment_before_file_before_defaults() {
    let world = World::new();
    assert_eq!(world.serve("").timeouts.close.as_millis(), 5000);
    let world = world.file("wsgate.toml", "[timeouts]\nclose_ms = 4000\n");
    assert_eq!(world.serve("").timeouts.close.as_millis(), 4000);
    let world = world.variable("WSGATE_TIMEOUTS_CLOSE_MS", "3000");
    assert_eq!(world.serve("").timeouts.close.as_millis(), 3000);
    assert_eq!(world.serve("--timeouts-close-ms 2000").timeouts.close.as_millis(), 2000);
}

#[test]
fn the_file_is_the_named_one_and_must_then_be_there() {
    let world = World::new().file("wsgate.toml", "shards = 2").file("other.toml", "shards = 5");
    assert_eq!(world.serve("").shards, 2);
    assert_eq!(world.serve("--config other.toml").shards, 5);
    let mut world = world.variable(FILE_VARIABLE, "");
    assert_eq!(world.serve("").shards, 2);
    world.0.environment.clear();
    let world = world.variable(FILE_VARIABLE, "other.toml");
    assert_eq!(world.serve("").shards, 5);
    assert_eq!(world.serve("--config wsgate.toml").shards, 2);
    let refusal = world.refusal("--config missing.toml");
    assert!(refusal.starts_with("cannot read the configuration file missing.toml: "), "{refusal}");
}

#[test]
fn flags_stand_before_or_after_any_command() {
    let world = World::new();
    for line in ["--shards 7", "serve --shards 7", "--shards 7 serve", "--shards 6 serve --shards 7"] {
        assert_eq!(world.serve(line).shards, 7, "{line}");
    }
    for line in ["config check --shards 7", "--shards 7 config check"] {
        assert!(world.print(line).lines().any(|line| line.starts_with("shards ") && line.contains("= 7")), "{line}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_key_value_source_and_range() {
    let cases = [
        ("mode", "prod", r#"it takes one of "development", "production""#),
        ("listen", "localhost:8000", "it takes a list of one or more of IP:PORT"),
        ("admin", "localhost:8000", "it takes an IP address with a port"),
        ("proxy_protocol.trusted", "10.0.0.0/33", "it takes a list of IP addresses and blocks"),
        ("shards", "65", r#"it takes "auto" or a whole number from 1 to 64"#),
        ("io", "uring", r#"it takes "auto" or one of "epoll", "io_uring""#),
        ("security.plaintext", "yes", "it takes true or false"),
        ("security.anonymous", "subscribe,all", r#"it takes a list of any of "subscribe", "publish""#),
        ("security.allowed_hosts", "http://a", "it takes a list of host names without scheme and port"),
        ("limits.queue_bytes_max", "1 KiB", "it takes bytes from 64 KiB to 1 GiB"),
        ("drain.deadline_ms", "9", "it takes milliseconds from 10 to 3600000"),
        ("dialects.echo", "on", r#"it takes "auto", true or false"#),
    ];
    for (key, value, range) in cases {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
        let section = if setting.section().is_empty() { String::new() } else { format!("[{}]\n", setting.section()) };
        let text = format!("{section}{} = {value:?}\n", setting.name());
        let line = text.lines().count();
        let in_flag = format!("{}={}", flag(setting), value.replace(' ', ""));
        let refusals = [
            (World::new().file("wsgate.toml", &text).refusal(""), format!("wsgate.toml line {line}")),
            (
                World::new().variable(&setting.variable(), value).refusal(""),
                format!("environment {}", setting.variable()),
            ),
            (World::new().refusal(&in_flag), format!("flag {}", flag(setting))),
        ];
        for (refusal, source) in refusals {
            let shown = refusal.replace("1KiB", "1 KiB");
            assert!(shown.starts_with(&format!("{key} = ")) && shown.contains(value), "{refusal}");
            assert!(refusal.contains(&format!("({source})")) && refusal.contains(range), "{refusal}");
        }
    }
}

#[test]
fn values_of_the_wrong_type_in_the_file_are_refused_as_they_stand() {
    for (text, shown) in [
        ("shards = 1.5", "shards = 1.5"),
        ("shards = -1", "shards = -1"),
        ("shards = 99999999999999999999", "shards = 99999999999999999999"),
        ("mode = true", "mode = true"),
        ("[security]\nplaintext = 1", "security.plaintext = 1"),
        ("[security]\nanonymous = [1]", "security.anonymous = a list with an item that is no text"),
    ] {
        let refusal = World::new().file("wsgate.toml", text).refusal("");
        assert!(refusal.starts_with(shown), "{refusal}");
    }
}

#[test]
fn a_wrong_value_is_refused_even_if_a_higher_layer_replaces_it() {
    let world = World::new().variable("WSGATE_SHARDS", "many");
    assert!(world.refusal("--shards 2").starts_with("shards = \"many\" (environment WSGATE_SHARDS)"));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let mut world = World::new();
    world.0.environment.push(("WSGATE_LOG".into(), OsString::from_vec(vec![b'a', 0xff])));
    assert!(world.refusal("").contains("(environment WSGATE_LOG)"));
}

#[test]
fn an_unknown_key_in_the_file_is_refused_by_name_with_the_nearest_one() {
    let world = World::new().file("wsgate.toml", "mode = \"development\"\n[limits]\nqueue_byte_max = 65536\n");
    let refusal = world.refusal("");
    assert!(refusal.starts_with("limits.queue_byte_max (wsgate.toml line 3) is no option"), "{refusal}");
    assert!(refusal.contains("did you mean limits.queue_bytes_max?"), "{refusal}");
    let refusal = World::new().file("wsgate.toml", "[listen]\nport = 1\n").refusal("");
    assert!(refusal.starts_with("listen.port (wsgate.toml line 2) is no option"), "{refusal}");
}

#[test]
fn an_unknown_variable_is_ignored_but_check_says_so() {
    let world = World::new().variable("WSGATE_SERVICE_HOST", "10.0.0.1");
    assert_eq!(world.serve(""), World::new().serve(""));
    let check = world.print("config check");
    assert!(check.contains("# ignored, since no option has that name: environment WSGATE_SERVICE_HOST"), "{check}");
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let world = World::new();
    assert!(world.refusal("--admin 127.0.0.1:8000").contains("it takes a port of its own"));
    assert!(world.refusal("--limits-reply-bytes-watermark 2MiB").contains("not more than limits.queue_bytes_max"));
    world.serve("--listen 127.0.0.1:0 --admin 127.0.0.1:0");
    world.serve("--listen 127.0.0.1:8000 --admin 127.0.0.2:8000");
}

#[test]
fn development_mode_serves_no_address_that_others_can_reach() {
    for address in ["0.0.0.0:0", "[::]:0", "192.168.1.10:0", "[fe80::1]:0", "[::ffff:10.0.0.1]:0"] {
        for flag in ["--listen", "--admin"] {
            let refusal = World::new().refusal(&format!("{flag} {address}"));
            assert!(refusal.contains(address) && refusal.contains(&format!("flag {flag}")), "{refusal}");
            for line in
                ["mode = \"production\"", "[security]", "plaintext = true", "anonymous = [", "[admin_api]", "key = \""]
            {
                assert!(refusal.contains(line), "{line} is missing in {refusal}");
            }
        }
    }
    for address in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        World::new().serve(&format!("--listen {address}"));
    }
}

#[test]
fn the_lines_that_a_refusal_prints_make_it_start() {
    for line in ["--listen 0.0.0.0:8000", "--listen [::]:0 --admin 0.0.0.0:0"] {
        let lines = lines_to_write(World::new().run(line).unwrap_err());
        let world = World::new().file("wsgate.toml", &lines);
        let config = world.serve(line);
        assert_eq!(config.mode, Mode::Production);
        assert!(config.api_key.is_some() && config.security.anonymous_subscribe && !config.security.anonymous_publish);
    }
}

#[test]
fn the_proposed_key_is_a_new_one_each_time() {
    let propose = || lines_to_write(World::new().run("--mode production").unwrap_err());
    assert_ne!(propose(), propose());
}

#[test]
fn production_lists_all_that_is_undecided_together_and_nothing_else() {
    let all = World::new().refusal("--mode production");
    assert!(all.contains("plaintext = true") && all.contains("anonymous = [") && all.contains("key = \""), "{all}");
    let lines = lines_to_write(World::new().run("--mode production --security-plaintext true").unwrap_err());
    assert!(!lines.contains("plaintext") && lines.contains("anonymous = [") && lines.contains("key = \""), "{lines}");
    let certificates = "--tls-certificates chain.pem,other.pem";
    let lines = lines_to_write(World::new().run(&format!("--mode production {certificates}")).unwrap_err());
    assert!(!lines.contains("plaintext") && lines.contains("anonymous = ["), "TLS is a decision too: {lines}");
    let world =
        World::new().file("wsgate.toml", &format!("[admin_api]\nkey = \"{KEY}\"\n[security]\nanonymous = []\n"));
    let lines = lines_to_write(world.run("--mode production").unwrap_err());
    assert!(lines.contains("plaintext = true") && !lines.contains("anonymous") && !lines.contains("key"), "{lines}");
}

#[test]
fn a_layer_that_would_overrule_the_printed_lines_is_named() {
    let world = World::new().variable("WSGATE_MODE", "development").variable("WSGATE_ADMIN_API_KEY", "");
    let lines = lines_to_write(world.run("--listen 0.0.0.0:0 --security-plaintext false").unwrap_err());
    for source in ["environment WSGATE_MODE", "environment WSGATE_ADMIN_API_KEY", "flag --security-plaintext"] {
        assert!(lines.contains(&format!("# Remove the {source} too")), "{lines}");
    }
}

#[test]
fn production_with_everything_decided_serves_any_address() {
    let text = format!(
        "mode = \"production\"\nlisten = \"0.0.0.0:8000\"\n[security]\nplaintext = true\nanonymous = [\"publish\"]\n\
         allowed_origins = [\"Example.com\", \"*\"]\n[admin_api]\nkey = \"{KEY}\"\n"
    );
    let config = World::new().file("wsgate.toml", &text).serve("");
    assert!(!config.security.check_host && !config.echo && !config.greeting);
    assert!(!config.security.anonymous_subscribe && config.security.anonymous_publish);
    assert_eq!(config.security.allowed_origins, ["example.com", "*"]);
    assert!(config.api_key.unwrap().matches(KEY.as_bytes()));
}

#[test]
fn the_api_key_is_never_printed() {
    let in_file = format!("[admin_api]\nkey = \"{KEY}\"\n");
    let world = World::new().file("wsgate.toml", &in_file);
    let check = world.print("config check");
    assert!(check.contains("\"(set)\"") && !check.contains(KEY), "{check}");
    assert!(!format!("{:?}", world.run("").unwrap()).contains(KEY));

    let spaced = format!("{KEY} with spaces");
    for refusal in [
        World::new().variable("WSGATE_ADMIN_API_KEY", &spaced).refusal(""),
        World::new().file("wsgate.toml", &format!("[admin_api]\nkey = [\"{KEY}\"]\n")).refusal(""),
        World::new().file("wsgate.toml", &format!("[admin_api]\nkey = \"{KEY}\n")).refusal(""),
        World::new().file("wsgate.toml", &format!("[admin_api]\nkey = \"{KEY}\"\nkey = \"{KEY}\"\n")).refusal(""),
        World::new().file("wsgate.toml", &format!("[admin_api]\nkye = \"{KEY}\"\n")).refusal(""),
        World::new().refusal(&format!("--admin-api-key={KEY}")),
        world.refusal("--listen 0.0.0.0:0"),
    ] {
        assert!(!refusal.contains(KEY), "{refusal}");
    }
}

#[test]
fn the_example_file_names_every_option_and_says_nothing_but_defaults() {
    let example = World::new().print("config example");
    let same = World::new().file("wsgate.toml", &example);
    assert_eq!(same.serve(""), World::new().serve(""));

    let uncommented: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect();
    let world = World::new().file("wsgate.toml", &uncommented);
    assert_eq!(world.serve(""), World::new().serve(""));
    // Every option now comes from the file, so none was left out.
    let check = world.print("config check");
    let from_file = check.lines().filter(|line| line.contains("# wsgate.toml line ")).count();
    assert_eq!(from_file, SETTINGS.len(), "{check}");
    for setting in SETTINGS {
        assert!(example.contains(&setting.variable()), "{}", setting.key);
    }
}

#[test]
fn what_is_printed_fits_80_columns() {
    let help = command().render_long_help().to_string() + &command().render_help().to_string();
    for text in [help, World::new().print("config example"), World::new().print("config check")] {
        for line in text.lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }
}

#[test]
fn help_begins_with_examples_and_names_every_option_with_default_and_variable() {
    let help = command().render_long_help().to_string();
    assert_eq!(help.lines().nth(2), Some("Examples:"), "{help}");
    let words: Vec<_> = help.split_whitespace().map(|word| word.trim_matches(['[', ']', '.'])).collect();
    for setting in SETTINGS {
        assert!(words.contains(&setting.variable().as_str()), "{}", setting.key);
        match setting.flag() {
            Some(_) => assert!(words.contains(&flag(setting).as_str()), "{}", setting.key),
            None => assert!(matches!(setting.kind, Kind::Secret)),
        }
    }
    for name in ["--listen", "--admin", "--shards", "--io", "--config"] {
        assert!(command().render_help().to_string().contains(name), "{name}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    for (line, text) in [("--help", "Examples:"), ("-h", "Examples:"), ("--version", env!("CARGO_PKG_VERSION"))] {
        match World::new().run(line).unwrap_err() {
            ConfigError::CommandLine(shown) => {
                assert_eq!(shown.exit_code(), 0);
                assert!(shown.to_string().contains(text), "{shown}");
            }
            other => panic!("{other}"),
        }
    }
    let refusal = World::new().refusal("--lissten 127.0.0.1:1");
    assert!(refusal.contains("--lissten") && refusal.contains("--listen"), "{refusal}");
}

#[test]
fn the_committed_documentation_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let committed = fs::read_to_string(&path).unwrap();
    let printed = World::new().print("config reference");
    assert!(committed == printed, "print it anew: wsgate config reference > docs/configuration.md");
    for setting in SETTINGS {
        for part in [setting.key, &setting.variable(), &setting.default_as_toml(), &setting.allowed()] {
            assert!(printed.contains(part), "{part}");
        }
    }
}

/// A value other than the default, as a variable writes it.
fn another_value(setting: &Setting) -> String {
    match setting.kind {
        Kind::Choice(words) => words.iter().rev().find(|word| **word != setting.default).unwrap().to_string(),
        Kind::Address => "127.0.0.1:9".to_owned(),
        Kind::Listeners => "127.0.0.1:9".to_owned(),
        Kind::Networks { .. } => "192.0.2.0/24".to_owned(),
        Kind::Whole { min, .. } => (min + 1).to_string(),
        Kind::Switch => (setting.default == "false").to_string(),
        Kind::Subset(_) => String::new(),
        Kind::Hosts { .. } => "example.com".to_owned(),
        Kind::Policies => "a = latest_only".to_owned(),
        Kind::Certificates => "chain.pem = key.pem".to_owned(),
        Kind::Secret => KEY.to_owned(),
    }
}

#[test]
fn every_option_changes_what_comes_out() {
    let defaults = World::new().serve("");
    for setting in SETTINGS {
        // These decide whether wsgate starts.
        if ["mode", "security.plaintext"].contains(&setting.key) {
            continue;
        }
        let config = World::new().variable(&setting.variable(), &another_value(setting)).serve("");
        assert_ne!(config, defaults, "{} has no effect", setting.key);
    }
}

#[test]
fn a_path_that_is_absolute_is_taken_as_it_is() {
    let elsewhere = World::new().file("a.toml", "shards = 9");
    let path: PathBuf = elsewhere.0.directory.join("a.toml");
    assert_eq!(World::new().serve(&format!("--config {}", path.display())).shards, 9);
}

#[test]
fn going_down_takes_its_time_where_somebody_has_to_notice() {
    let drain = |line: &str, mode: &str| {
        let text =
            format!("mode = \"{mode}\"\n[security]\nplaintext = true\nanonymous = []\n[admin_api]\nkey = \"{KEY}\"\n");
        let drain = World::new().file("wsgate.toml", &text).serve(line).drain;
        [drain.grace, drain.spread, drain.deadline].map(|duration| duration.as_millis())
    };
    assert_eq!(drain("", "development"), [0, 0, 25_000]);
    assert_eq!(drain("", "production"), [5_000, 10_000, 25_000]);
    assert_eq!(drain("--drain-deadline-ms 10", "production"), [2, 4, 10]);
    assert_eq!(drain("--drain-grace-ms 20000", "production"), [20_000, 2_500, 25_000]);
    assert_eq!(drain("--drain-spread-ms 24000", "production"), [500, 24_000, 25_000]);
    assert_eq!(drain("--drain-grace-ms 1 --drain-spread-ms 2 --drain-deadline-ms 10", "development"), [1, 2, 10]);
}

#[test]
fn nobody_is_to_be_told_after_the_deadline() {
    let world = World::new();
    let refusal = world.refusal("--drain-grace-ms 25000");
    assert!(refusal.starts_with("drain.grace_ms = 25000 (flag --drain-grace-ms)"), "{refusal}");
    assert!(refusal.contains("less than drain.deadline_ms = 25000 (default)"), "{refusal}");
    let refusal = world.refusal("--drain-grace-ms 1000 --drain-spread-ms 1000 --drain-deadline-ms 2000");
    assert!(refusal.starts_with("drain.spread_ms = 1000 "), "{refusal}");
    assert!(refusal.contains("drain.grace_ms = 1000") && refusal.contains("drain.deadline_ms = 2000"), "{refusal}");
    world.serve("--drain-grace-ms 1000 --drain-spread-ms 999 --drain-deadline-ms 2000");
}

#[test]
fn reading_again_changes_what_is_reloadable_and_names_the_rest() {
    let world = World::new().file("wsgate.toml", "shards = 2\nlog = \"warn\"\n");
    let mut reading = Reading::new(["wsgate".into()], world.0.clone());
    assert!(matches!(reading.start(), Ok(Command::Serve(config)) if config.shards == 2));
    let world = world.file("wsgate.toml", "shards = 5\nlog = \"error\"\n");
    for changed in [&["log = \"error\" (wsgate.toml line 2)"][..], &[]] {
        let reloaded = reading.again().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((reloaded.config.shards, reloaded.config.log), (2, LogLevel::Error));
        assert_eq!(reloaded.changed, changed);
        assert_eq!(reloaded.waiting, ["shards = 5 (wsgate.toml line 1)"]);
        reading.follow(reloaded);
    }
    let _world = world.file("wsgate.toml", "");
    let reloaded = reading.again().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((reloaded.config.shards, reloaded.config.log), (2, LogLevel::Info));
    assert_eq!(reloaded.changed, ["log = \"info\" (default)"]);
}

/// The mode needs a restart, so what it asks for still holds.
#[test]
fn what_would_make_a_running_production_unsafe_is_refused() {
    let safe =
        format!("mode = \"production\"\n[security]\nplaintext = true\nanonymous = []\n[admin_api]\nkey = \"{KEY}\"\n");
    let world = World::new().file("wsgate.toml", &safe);
    let mut reading = Reading::new(["wsgate".into()], world.0.clone());
    assert!(matches!(reading.start(), Ok(Command::Serve(_))));
    let world = world.file("wsgate.toml", "mode = \"development\"\n");
    match reading.again() {
        Err(error @ ConfigError::Undecided { .. }) => assert!(error.to_string().contains("key = \"")),
        other => panic!("{:?}", other.map(|reloaded| reloaded.config)),
    }
    let _world = world.file("wsgate.toml", &safe.replace("production", "development"));
    let reloaded = reading.again().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reloaded.waiting, ["mode = \"development\" (wsgate.toml line 1)"]);
    assert!(!reloaded.config.security.check_host && reloaded.config.mode == Mode::Production);
}
