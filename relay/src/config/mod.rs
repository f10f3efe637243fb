//! What the relay is told: by flags, by the environment, by a TOML file, by default; the first that
//! speaks wins.
//!
//! The fields of [`Args`] are the one list of settings. The flag `--cache-age` is the variable
//! `WEIR_CACHE_AGE` and the key `cache-age`, with the same words as values: what variables and file
//! say is handed to the same parser as the flags, so a wrong value is refused wherever it stands,
//! and the error names the place.

mod access;
mod limits;
mod values;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser};
use moqt::Version;
use transport::{ClientTls, Fingerprint, Limits};
use url::Url;

use access::Secret;
pub(crate) use access::{AdminAccess, AdminToken, Origin};
use limits::LimitArgs;
use values::{parse_address, parse_size, parse_span, parse_time, parse_version};

const ENV_PREFIX: &str = "WEIR_";
/// The one flag that is no key: a file doesn't name a file.
const CONFIG: &str = "config";
/// Longest node name, in bytes: it is a namespace field and a column on the dashboard.
const MAX_NODE: usize = 64;
/// What is likely a slip of the pen, on strsim's scale from 0 to 1.
const SIMILAR: f64 = 0.7;

/// Relays live media: publishers and parent relays in, child relays and browsers out
#[derive(Debug, Parser)]
#[command(name = "relay", version)]
struct Args {
    /// TOML file with these flags as keys: linger = "2m"
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// UDP for raw QUIC and WebTransport; TCP, same number, for the page over HTTPS
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:4433", value_parser = parse_address)]
    listen: SocketAddr,
    /// The page in plain HTTP
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = parse_address)]
    http: SocketAddr,
    /// Admin API and metrics; an address that others can reach needs --admin-token-file
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4480", value_parser = parse_address)]
    admin: SocketAddr,
    /// Whoever uses the admin API must send this: Authorization: Bearer TOKEN
    #[arg(long, value_name = "TOKEN")]
    admin_token: Option<Secret>,
    /// The same, the first line of a file: other users of this machine see what is on command lines
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Pages that may use the admin API from a browser, by scheme, host and port; repeatable
    #[arg(long, value_name = "URL", value_parser = Origin::parse)]
    admin_origin: Vec<Origin>,
    /// Parent: moqt://host:port (raw QUIC) or https://host:port/path (WebTransport); repeat for
    /// fail-over
    #[arg(long, value_name = "URL", value_parser = parse_upstream)]
    upstream: Vec<Url>,
    /// Name on the dashboard, unique in a tree [default: host name]
    #[arg(long, value_name = "NAME", value_parser = parse_node)]
    node: Option<String>,
    /// Certificate chain, PEM; without one the relay makes its own
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of --tls-cert, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Where the relay's own certificate is kept
    #[arg(long, value_name = "DIR", default_value = "certs")]
    state_dir: PathBuf,
    /// Trust only upstreams with this certificate (SHA-256); repeatable
    #[arg(long, value_name = "HEX")]
    tls_fingerprint: Vec<Fingerprint>,
    /// Trust whatever certificate an upstream shows
    #[arg(long)]
    tls_disable_verify: bool,
    /// Media kept per track for viewers who join, at most
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = parse_size)]
    cache_bytes: usize,
    /// How long a finished group is kept for viewers who join
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    cache_age: Duration,
    /// How late a viewer may get before groups are cut for it
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_span)]
    max_latency: Duration,
    /// How long viewers stay subscribed after their publisher left
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    linger: Duration,
    /// File with a word that all relays of a tree know: without it nobody is taken for a relay
    #[arg(long, value_name = "FILE")]
    tree_token_file: Option<PathBuf>,
    /// How long a subscription may wait for a publisher, if it asks to (RENDEZVOUS_TIMEOUT)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    max_rendezvous: Duration,
    /// Publishers of one track that are listened to at once
    #[arg(long, value_name = "N", default_value = "8",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_publishers: u32,
    /// Drafts to speak with parents, best first: 18, 22, 16 [default: all]
    #[arg(long, value_name = "DRAFT", value_parser = parse_version)]
    upstream_draft: Vec<Version>,
    /// Drafts to speak with everybody else, best first: 18, 22, 16 [default: all]
    #[arg(long, value_name = "DRAFT", value_parser = parse_version)]
    draft: Vec<Version>,
    /// Sessions served at once; further ones are turned away
    #[arg(long, value_name = "N", default_value = "10000",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_sessions: u32,
    /// Threads that serve sessions, each with a UDP socket of its own [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: Option<u32>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// A whole and consistent configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// UDP for QUIC, TCP for HTTPS.
    pub(crate) listen: SocketAddr,
    /// Plain HTTP.
    pub(crate) http: SocketAddr,
    /// Admin API.
    pub(crate) admin: SocketAddr,
    /// Who may use it.
    pub(crate) admin_access: AdminAccess,
    /// Parents in order of preference, each `moqt:` or `https:` and there once.
    pub(crate) upstream: Vec<Url>,
    /// Name of this node: not empty, no `/`, nothing invisible.
    pub(crate) node: String,
    /// What to show to clients.
    pub(crate) certificate: Certificate,
    /// What to trust in parents.
    pub(crate) upstream_tls: ClientTls,
    /// Bound of the cache of one track, in payload bytes.
    pub(crate) cache_bytes: usize,
    /// How long a finished group stays in the cache.
    pub(crate) cache_age: Duration,
    /// Per-viewer latency target; not zero.
    pub(crate) max_latency: Duration,
    /// How long a downstream subscription outlives its publisher.
    pub(crate) linger: Duration,
    /// What tells the relays of this tree from others; `None`: whoever says so is one.
    pub(crate) tree_token: Option<AdminToken>,
    /// Longest a subscription may wait for a publisher.
    pub(crate) max_rendezvous: Duration,
    /// Publishers of one track at once; not zero.
    pub(crate) max_publishers: usize,
    /// Drafts offered to parents, best first; not empty.
    pub(crate) upstream_drafts: Vec<Version>,
    /// Drafts offered to everybody else, best first; not empty.
    pub(crate) drafts: Vec<Version>,
    /// Sessions at once; not zero.
    pub(crate) max_sessions: usize,
    /// Threads that serve sessions; not zero.
    pub(crate) workers: usize,
    /// What each may make us hold.
    pub(crate) limits: Limits,
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Made by the relay and kept in this directory.
    SelfSigned {
        /// `--state-dir`.
        state_dir: PathBuf,
    },
    /// Given in PEM files.
    Files {
        /// `--tls-cert`.
        certificate: PathBuf,
        /// `--tls-key`.
        key: PathBuf,
    },
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The command line is wrong, or asked for help.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The file can't be read, or is no TOML.
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    /// The file has a key that means nothing.
    #[error("{}: unknown key \"{key}\"; {hint}", file.display())]
    UnknownKey { file: PathBuf, key: String, hint: String },
    /// A variable or key has a value that is refused.
    #[error("{origin}: {reason}")]
    Value { origin: String, reason: String },
    /// Settings that don't go together.
    #[error("{0}")]
    Conflict(&'static str),
}

impl Config {
    /// Reads command line, environment and file. Ends the program by itself where the command line
    /// asked for help (code 0) or is wrong (code 2).
    pub(crate) fn load() -> Result<Self, ConfigError> {
        match settle(std::env::args_os().collect(), |name| std::env::var_os(name)) {
            Err(ConfigError::Usage(error)) => error.exit(),
            settled => settled,
        }
    }
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let certificate = match (args.tls_cert, args.tls_key) {
            (Some(certificate), Some(key)) => Certificate::Files { certificate, key },
            (None, None) => Certificate::SelfSigned { state_dir: args.state_dir },
            (Some(_), None) => return Err(ConfigError::Conflict("--tls-cert needs --tls-key")),
            (None, Some(_)) => return Err(ConfigError::Conflict("--tls-key needs --tls-cert")),
        };
        if args.tls_disable_verify && !args.tls_fingerprint.is_empty() {
            return Err(ConfigError::Conflict(
                "--tls-disable-verify would make --tls-fingerprint meaningless; leave one out",
            ));
        }
        let admin_access = AdminAccess::settle(
            args.admin,
            args.admin_token,
            args.admin_token_file,
            args.admin_origin,
        )?;
        let mut upstream = Vec::with_capacity(args.upstream.len());
        for url in args.upstream {
            if upstream.contains(&url) {
                return Err(ConfigError::Conflict("--upstream names the same parent twice"));
            }
            upstream.push(url);
        }
        Ok(Self {
            listen: args.listen,
            http: args.http,
            admin: args.admin,
            admin_access,
            upstream,
            node: args.node.unwrap_or_else(host_name),
            certificate,
            upstream_tls: ClientTls {
                fingerprints: args.tls_fingerprint,
                disable_verify: args.tls_disable_verify,
            },
            cache_bytes: args.cache_bytes,
            cache_age: args.cache_age,
            max_latency: args.max_latency,
            linger: args.linger,
            tree_token: args.tree_token_file.as_deref().map(AdminToken::read).transpose()?,
            max_rendezvous: args.max_rendezvous,
            max_publishers: args.max_publishers as usize,
            upstream_drafts: drafts(args.upstream_draft),
            drafts: drafts(args.draft),
            max_sessions: args.max_sessions as usize,
            workers: args.workers.map_or_else(cores, |workers| workers as usize),
            limits: args.limits.into(),
        })
    }
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The drafts named, each once; all without any.
fn drafts(named: Vec<Version>) -> Vec<Version> {
    let mut drafts = Vec::new();
    for version in if named.is_empty() { Version::ALL.to_vec() } else { named } {
        if !drafts.contains(&version) {
            drafts.push(version);
        }
    }
    drafts
}

/// The command line's grammar, its help naming the variables too.
fn command() -> clap::Command {
    Args::command().mut_args(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let variable = variable(key(&arg));
        arg.help(format!("{help} [env: {variable}]"))
    })
}

/// A setting's name as flag and key.
fn key(arg: &Arg) -> &str {
    arg.get_long().expect("every setting has a long flag")
}

fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('-', "_").to_ascii_uppercase())
}

fn settle(
    argv: Vec<OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Config, ConfigError> {
    let flags = command().try_get_matches_from(&argv)?;
    // An empty variable is how compose and unit files say "none".
    let env = |key: &str| env(&variable(key)).filter(|value| !value.is_empty());
    let path = flags.get_one::<PathBuf>(CONFIG).cloned();
    let file = match path.or_else(|| env(CONFIG).map(PathBuf::from)) {
        Some(path) => Some(File::read(path)?),
        None => None,
    };

    // What variables and file say goes before the flags, unless a flag says it already.
    let mut words: Vec<OsString> = argv.first().cloned().into_iter().collect();
    for arg in Args::command().get_arguments() {
        let source = flags.value_source(arg.get_id().as_str());
        let flagged = source == Some(clap::parser::ValueSource::CommandLine);
        if flagged || key(arg) == CONFIG {
            continue;
        }
        let said = env(key(arg))
            .map(|value| Said::by_variable(arg, &value))
            .or_else(|| file.as_ref().and_then(|file| file.said(arg)));
        if let Some(said) = said {
            words.extend(said.spell(arg)?);
        }
    }
    words.extend(argv.into_iter().skip(1));
    Args::from_arg_matches(&command().try_get_matches_from(words)?)?.try_into()
}

/// A setting's values where it was found, not yet parsed.
struct Said {
    origin: String,
    /// `None` for what is no value at all, such as a table.
    values: Option<Vec<OsString>>,
}

impl Said {
    /// Several values are separated by commas or blanks.
    fn by_variable(arg: &Arg, value: &OsStr) -> Self {
        let several = value.to_str().filter(|_| matches!(arg.get_action(), ArgAction::Append));
        let values = match several {
            Some(list) => list
                .split(|c: char| c == ',' || c.is_whitespace())
                .filter(|value| !value.is_empty())
                .map(OsString::from)
                .collect(),
            None => vec![value.to_owned()],
        };
        Self { origin: variable(key(arg)), values: Some(values) }
    }

    /// The same as words of a command line, once the grammar has accepted them.
    fn spell(self, arg: &Arg) -> Result<Vec<OsString>, ConfigError> {
        let refuse = |reason: String| ConfigError::Value { origin: self.origin.clone(), reason };
        let values = self.values.as_ref().ok_or_else(|| refuse("is no text or number".into()))?;
        let flag = format!("--{}", key(arg));
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            let on = match values.as_slice() {
                [value] => value.to_str().and_then(truth),
                _ => None,
            };
            let on = on.ok_or_else(|| refuse("says neither true nor false".into()))?;
            return Ok(on.then(|| flag.into()).into_iter().collect());
        }
        let words = values.iter().map(|value| {
            let mut word = OsString::from(&flag);
            word.push("=");
            word.push(value);
            word
        });
        let words: Vec<OsString> = words.collect();
        let alone = std::iter::once(OsString::new()).chain(words.iter().cloned());
        match command().try_get_matches_from(alone) {
            Ok(_) => Ok(words),
            Err(error) => {
                let said = error.to_string();
                let first = said.lines().next().unwrap_or_default();
                Err(refuse(first.trim_start_matches("error: ").to_owned()))
            }
        }
    }
}

/// A TOML file whose keys all mean something.
struct File {
    path: PathBuf,
    table: toml::Table,
}

impl File {
    fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let refuse = |reason| ConfigError::File { file: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
        // The line itself is not shown: it may hold a token.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            refuse(format!("line {line}: {}", error.message()))
        })?;
        let command = Args::command();
        let known: Vec<&str> = command.get_arguments().map(key).filter(|k| *k != CONFIG).collect();
        match table.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ConfigError::UnknownKey {
                hint: hint(key, &known),
                key: key.clone(),
                file: path,
            }),
            None => Ok(Self { path, table }),
        }
    }

    fn said(&self, arg: &Arg) -> Option<Said> {
        let value = self.table.get(key(arg))?;
        let values = match value {
            toml::Value::Array(list) => list.iter().map(word).collect(),
            single => word(single).map(|word| vec![word]),
        };
        Some(Said { origin: format!("{}: {}", self.path.display(), key(arg)), values })
    }
}

fn word(value: &toml::Value) -> Option<OsString> {
    match value {
        toml::Value::String(text) => Some(text.into()),
        toml::Value::Integer(number) => Some(number.to_string().into()),
        toml::Value::Boolean(truth) => Some(truth.to_string().into()),
        _ => None,
    }
}

/// What an unknown key was meant to be.
fn hint(key: &str, known: &[&str]) -> String {
    let likeness = |valid: &str| strsim::jaro_winkler(&key.to_ascii_lowercase(), valid);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(nearest) if likeness(nearest) >= SIMILAR => format!("did you mean \"{nearest}\"?"),
        _ => format!("valid keys are {}", known.join(", ")),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

pub(crate) fn parse_upstream(text: &str) -> Result<Url, String> {
    const FORMS: &str = "use moqt://host:port or https://host:port/path";
    let url = Url::parse(text).map_err(|error| format!("{error}; {FORMS}"))?;
    if !matches!(url.scheme(), "moqt" | "https") {
        return Err(format!("the scheme {} is none of ours; {FORMS}", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("no host; {FORMS}"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("a user, password or fragment means nothing here; {FORMS}"));
    }
    Ok(url)
}

fn parse_node(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_NODE {
        return Err(format!("a node name has 1 to {MAX_NODE} bytes"));
    }
    if text.contains(['/', ' ']) || stats::sanitize(text) != text {
        return Err("a node name has no slash, blank or invisible character".into());
    }
    Ok(text.to_owned())
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    parse_node(&name).unwrap_or_else(|_| "relay".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration from a command line and variables.
    fn settled(flags: &[&str], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let argv = std::iter::once("relay").chain(flags.iter().copied()).map(Into::into).collect();
        settle(argv, |name| {
            env.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
        })
    }

    fn refused(flags: &[&str], env: &[(&str, &str)]) -> String {
        settled(flags, env).expect_err("should be refused").to_string()
    }

    struct Toml(tempfile::NamedTempFile);

    impl Toml {
        fn new(text: &str) -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            Self(file)
        }

        fn path(&self) -> &str {
            self.0.path().to_str().unwrap()
        }
    }

    fn port(config: &Config) -> u16 {
        config.listen.port()
    }

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = settled(&[], &[]).unwrap();
        assert_eq!(config.listen, "[::]:4433".parse().unwrap());
        assert_eq!(config.http, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.admin, "127.0.0.1:4480".parse().unwrap());
        assert!(config.upstream.is_empty() && !config.node.is_empty());
        assert_eq!(config.certificate, Certificate::SelfSigned { state_dir: "certs".into() });
        assert_eq!(config.cache_bytes, 32 << 20);
        assert_eq!(config.max_latency, Duration::from_secs(2));
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let toml = Toml::new("listen = \"[::]:3\"\nlinger = \"3s\"\ncache-bytes = 300");
        let file = ["--config", toml.path()];
        let flag = ["--config", toml.path(), "--listen", "[::]:1"];
        let env = [("WEIR_LISTEN", "[::]:2"), ("WEIR_LINGER", "2s")];
        assert_eq!(port(&settled(&flag, &env).unwrap()), 1);
        assert_eq!(port(&settled(&file, &env).unwrap()), 2);
        assert_eq!(port(&settled(&file, &[]).unwrap()), 3);
        let config = settled(&flag, &env).unwrap();
        assert_eq!(config.linger, Duration::from_secs(2));
        assert_eq!(config.cache_bytes, 300);
        let config = settled(&[], &[("WEIR_CONFIG", toml.path()), ("WEIR_LISTEN", "")]).unwrap();
        assert_eq!(port(&config), 3, "an empty variable says nothing");
    }

    #[test]
    fn a_higher_place_replaces_a_whole_list() {
        let toml = Toml::new("upstream = [\"moqt://a:1\", \"https://b:2/live\"]");
        let hosts = |config: Config| -> Vec<String> {
            config.upstream.iter().map(|url| url.host_str().unwrap().to_owned()).collect()
        };
        let env = [("WEIR_UPSTREAM", "moqt://c:1, moqt://d:1")];
        assert_eq!(hosts(settled(&["--config", toml.path()], &[]).unwrap()), ["a", "b"]);
        assert_eq!(hosts(settled(&["--config", toml.path()], &env).unwrap()), ["c", "d"]);
        let flags = ["--upstream", "moqt://e:1", "--upstream", "moqt://f:1"];
        assert_eq!(hosts(settled(&flags, &env).unwrap()), ["e", "f"]);
    }

    #[test]
    fn a_switch_is_true_or_false_anywhere() {
        let on = |env, toml: &str| {
            let toml = Toml::new(toml);
            let env: &[_] = env;
            settled(&["--config", toml.path()], env).unwrap().upstream_tls.disable_verify
        };
        assert!(on(&[("WEIR_TLS_DISABLE_VERIFY", "1")], ""));
        assert!(on(&[], "tls-disable-verify = true"));
        assert!(!on(&[("WEIR_TLS_DISABLE_VERIFY", "no")], "tls-disable-verify = true"));
        let error = refused(&[], &[("WEIR_TLS_DISABLE_VERIFY", "perhaps")]);
        assert!(error.starts_with("WEIR_TLS_DISABLE_VERIFY: "), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_place() {
        let toml = Toml::new("listen = \"everywhere\"");
        let error = refused(&["--config", toml.path()], &[]);
        assert!(error.starts_with(&format!("{}: listen: ", toml.path())), "{error}");
        assert!(error.contains("everywhere"), "{error}");
        let error = refused(&[], &[("WEIR_ADMIN", "nowhere")]);
        assert!(error.starts_with("WEIR_ADMIN: ") && error.contains("nowhere"), "{error}");
        let error = refused(&["--http", "somewhere"], &[]);
        assert!(error.contains("--http") && error.contains("somewhere"), "{error}");
        let error = refused(&["--listen", "4433"], &[]);
        assert!(error.contains("[::]:4433"), "{error}");
        for table in ["[listen]\nport = 1", "listen = 1.5", "listen = [\"[::]:1\", \"[::]:2\"]"] {
            let toml = Toml::new(table);
            let error = refused(&["--config", toml.path()], &[]);
            assert!(error.contains(": listen: "), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        for (text, nearest) in [
            ("lisen = 1", "\"listen\""),
            ("cache_bytes = 1", "\"cache-bytes\""),
            ("Upstreams = []", "\"upstream\""),
            ("max-sesions = 1", "\"max-sessions\""),
        ] {
            let toml = Toml::new(text);
            let error = refused(&["--config", toml.path()], &[]);
            let key = text.split(' ').next().unwrap();
            assert!(error.contains(key) && error.contains(nearest), "{error}");
            assert!(error.contains(toml.path()), "{error}");
        }
        let toml = Toml::new("colour = \"red\"\n");
        let error = refused(&["--config", toml.path()], &[]);
        assert!(error.contains("valid keys are listen, http"), "{error}");
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let error = refused(&["--config", "/no/such/relay.toml"], &[]);
        assert!(error.contains("/no/such/relay.toml"), "{error}");
        let toml = Toml::new("listen = ");
        let error = refused(&["--config", toml.path()], &[]);
        assert!(error.contains(toml.path()), "{error}");
    }

    #[test]
    fn an_upstream_is_a_url_that_can_be_dialled_and_there_once() {
        for good in
            ["moqt://127.0.0.1:4433", "https://relay.example/live?token=x", "moqt://[::1]:1"]
        {
            assert!(settled(&["--upstream", good], &[]).is_ok(), "{good}");
        }
        for bad in
            ["ftp://example.com", "moqt://", "127.0.0.1:4433", "https://me:pw@host/", "moqt:x"]
        {
            let error = refused(&["--upstream", bad], &[]);
            assert!(error.contains(bad) && error.contains("moqt://host:port"), "{error}");
        }
        refused(&["--upstream", "moqt://a:1", "--upstream", "moqt://a:1"], &[]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(refused(&["--tls-cert", "a.pem"], &[]).contains("--tls-key"));
        assert!(refused(&["--tls-key", "a.key"], &[]).contains("--tls-cert"));
        let pair = settled(&["--tls-cert", "a.pem"], &[("WEIR_TLS_KEY", "a.key")]).unwrap();
        let expected = Certificate::Files { certificate: "a.pem".into(), key: "a.key".into() };
        assert_eq!(pair.certificate, expected);
        let print = "00".repeat(32);
        refused(&["--tls-disable-verify", "--tls-fingerprint", &print], &[]);
    }

    #[test]
    fn an_admin_api_that_others_can_reach_needs_a_token() {
        for addr in ["0.0.0.0:4480", "[::]:4480", "192.0.2.1:4480", "[::ffff:192.0.2.1]:4480"] {
            let error = refused(&["--admin", addr], &[]);
            assert!(error.contains("--admin-token-file"), "{error}");
            settled(&["--admin", addr], &[("WEIR_ADMIN_TOKEN", "s3cret")]).unwrap();
        }
        for addr in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(settled(&["--admin", addr], &[]).unwrap().admin_access.token.is_none());
        }
    }

    #[test]
    fn a_token_comes_from_anywhere_and_is_shown_nowhere() {
        const TOKEN: &str = "s3cret-s3cret";
        let file = Toml::new(&format!("{TOKEN}\n"));
        let toml = Toml::new(&format!("admin-token = \"{TOKEN}\""));
        for (flags, env) in [
            (vec!["--admin-token", TOKEN], vec![]),
            (vec!["--admin-token-file", file.path()], vec![]),
            (vec![], vec![("WEIR_ADMIN_TOKEN", TOKEN)]),
            (vec!["--config", toml.path()], vec![]),
        ] {
            let config = settled(&flags, &env).unwrap();
            assert!(config.admin_access.token.as_ref().unwrap().is(TOKEN.as_bytes()));
            let shown = format!("{config:?}");
            assert!(!shown.contains(TOKEN), "{shown}");
        }
        let twice = ["--admin-token", TOKEN, "--admin-token-file", file.path()];
        assert!(refused(&twice, &[]).contains("leave one out"));

        let (empty, blank) = (Toml::new(""), format!("{TOKEN} {TOKEN}"));
        let unquoted = Toml::new(&format!("linger = \"2s\"\nadmin-token = {TOKEN}"));
        for (flags, place) in [
            (vec!["--admin-token", &blank], "--admin-token"),
            (vec!["--admin-token", ""], "empty"),
            (vec!["--admin-token", TOKEN, "--admin-token", TOKEN], "--admin-token"),
            (vec!["--admin-token-file", empty.path()], empty.path()),
            (vec!["--admin-token-file", "/nowhere/at/all"], "/nowhere/at/all"),
            (vec!["--config", unquoted.path()], "line 2"),
        ] {
            let error = refused(&flags, &[]);
            assert!(error.contains(place) && !error.contains(TOKEN), "{error}");
        }
    }

    #[test]
    fn node_names_fit_a_namespace_field_and_a_terminal() {
        assert_eq!(settled(&["--node", "edge-1"], &[]).unwrap().node, "edge-1");
        for bad in ["", "a/b", "a b", "\u{1b}[2J", &"x".repeat(65)] {
            refused(&[&format!("--node={bad}")], &[]);
        }
    }

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(parse_time("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_time("5 m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_size("32MiB"), Ok(32 << 20));
        assert_eq!(parse_size("1 GB"), Ok(1_000_000_000));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in
            ["", "s", "5", "-1s", "1.5s", "9999h", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
        assert!(parse_span("0ms").is_err());
        for bad in ["", "MiB", "0", "5 apples", "18446744073709551615GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_bound_is_in_the_operators_guide_with_its_default() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let row = |flag: &str| guide.lines().find(|l| l.starts_with("| `--") && l.contains(flag));
        let limits = "Bounds for each session";
        for arg in Args::command().get_arguments() {
            let flag = format!("`--{}`", key(arg));
            let of_session = arg.get_help_heading() == Some(limits);
            if !of_session && !flag.starts_with("`--max-") {
                continue;
            }
            let row = row(&flag).unwrap_or_else(|| panic!("{flag} is not there"));
            let default = arg.get_default_values()[0].to_str().unwrap();
            assert!(row.contains(default), "{flag}: {default} is not in {row}");
        }
    }

    #[test]
    fn help_names_flag_variable_and_default() {
        let help = command().render_help().to_string();
        for word in ["--cache-age", "WEIR_CACHE_AGE", "[default: 30s]", "WEIR_CONFIG"] {
            assert!(help.contains(word), "{help}");
        }
    }
}
