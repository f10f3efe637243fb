//! What the publisher is told: by flags, by the environment, by a TOML file, by default; the first
//! that speaks wins.
//!
//! The fields of [`Args`] are the one list of settings. The flag `--tls-fingerprint` is the variable
//! `WEIR_TLS_FINGERPRINT` and the key `tls-fingerprint`. What variables and file say is handed to
//! the same parser as the flags, so a wrong value is refused wherever it stands.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser};
use moqt::{NameError, Namespace, Version};
use transport::{ClientTls, Fingerprint};
use url::Url;

use crate::sources::Source;

/// Namespaces below this are the nodes' own.
const RESERVED: &str = "weir";

/// Publishes a live source at a MoQT relay
#[derive(Debug, Parser)]
#[command(
    name = "publisher",
    version,
    after_help = "Sources:\n  \
        test:                       a moving picture with clock and tone, made by the program itself;\n                              \
        test:?size=1280x720&fps=30&bitrate=2500k&audio=1&gop=1\n  \
        FILE                        .mp4 (fragmented or not) or .ts, played in real time; --loop\n  \
        -                           fragmented MP4 or MPEG-TS on standard input, as it comes\n  \
        http://… https://…          MPEG-TS that never ends (IPTV); reconnects\n\n\
        H.264, HEVC, AV1, VP9, AAC and Opus pass through untouched. Anything else that ffmpeg reads:\n  \
        ffmpeg -re -i INPUT -c:v libx264 -tune zerolatency -g 60 -c:a aac -f mpegts - | publisher --url -\n  \
        ffmpeg -f v4l2 -i /dev/video0 -c:v libx264 -tune zerolatency -g 30 -f mpegts - | publisher --url -\n\n\
        Exit codes: 0 ended as asked, or the source has ended; 2 wrong usage or configuration; 1 anything else.\n\
        WEIR_LOG=debug says more."
)]
struct Args {
    /// TOML file with these flags as keys: url = "test:"
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to publish; see below
    #[arg(long, short = 'i', value_name = "SOURCE", allow_hyphen_values = true)]
    url: Option<String>,
    /// Where to push: moqt://host:port (raw QUIC) or https://host:port/path (WebTransport)
    #[arg(long, value_name = "URL", default_value = "moqt://127.0.0.1:4433", value_parser = relay)]
    relay: Url,
    /// Broadcast name, such as live/cam1 [default: live/ and a word from the source]
    #[arg(long, value_name = "BROADCAST", value_parser = broadcast)]
    name: Option<Namespace>,
    /// Start a file over at its end
    #[arg(long = "loop")]
    repeat: bool,
    /// Trust only a relay with this certificate (SHA-256); repeatable
    #[arg(long, value_name = "HEX")]
    tls_fingerprint: Vec<Fingerprint>,
    /// Trust whatever certificate the relay shows
    #[arg(long)]
    tls_disable_verify: bool,
    /// Speak this draft only: moqt-18, moqt-22 or moqt-16; repeatable, most preferred first
    #[arg(long, value_name = "DRAFT", value_parser = version)]
    moqt_version: Vec<Version>,
    /// Wait for a relay or server that has never answered, instead of giving up after 10 s
    #[arg(long)]
    retry_forever: bool,
    /// Milliseconds from capture to display that players should aim at; our own takes up to 2500
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    target_latency: Option<u32>,
}

/// A whole and consistent configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) source: Source,
    pub(crate) relay: Url,
    pub(crate) name: Namespace,
    pub(crate) tls: ClientTls,
    /// The drafts to offer, most preferred first.
    pub(crate) versions: Vec<Version>,
    /// Never give up on what has never worked.
    pub(crate) retry_forever: bool,
    /// Latency target for players, in milliseconds.
    pub(crate) target_latency: Option<u32>,
}

impl Config {
    /// Reads command line, environment and file. Ends the program where they ask for help (code 0)
    /// or are wrong (code 2).
    pub(crate) fn load() -> Self {
        settle(std::env::args_os().collect(), |name| std::env::var_os(name))
            .unwrap_or_else(|error| error.exit())
    }
}

impl TryFrom<Args> for Config {
    type Error = clap::Error;

    fn try_from(args: Args) -> Result<Self, clap::Error> {
        let url = args.url.ok_or_else(|| {
            refuse("--url SOURCE is missing; to begin with: publisher --url test:")
        })?;
        let source = Source::parse(&url, args.repeat).map_err(refuse)?;
        let name = match args.name {
            Some(name) => name,
            None => broadcast(&source.default_name()).map_err(refuse)?,
        };
        if args.tls_disable_verify && !args.tls_fingerprint.is_empty() {
            return Err(refuse(
                "--tls-disable-verify would make --tls-fingerprint meaningless; leave one out",
            ));
        }
        let versions = match args.moqt_version {
            versions if versions.is_empty() => Version::ALL.to_vec(),
            versions => versions,
        };
        Ok(Self {
            source,
            relay: args.relay,
            name,
            tls: ClientTls {
                fingerprints: args.tls_fingerprint,
                disable_verify: args.tls_disable_verify,
            },
            versions,
            retry_forever: args.retry_forever,
            target_latency: args.target_latency,
        })
    }
}

fn relay(text: &str) -> Result<Url, String> {
    let forms = "use moqt://HOST:PORT (QUIC) or https://HOST:PORT/PATH (WebTransport)";
    let url = Url::parse(text).map_err(|error| format!("{error}; {forms}"))?;
    if !matches!(url.scheme(), "moqt" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(forms.into());
    }
    Ok(url)
}

fn version(text: &str) -> Result<Version, String> {
    Version::from_alpn(text).ok_or_else(|| {
        let names: Vec<_> = Version::ALL.iter().map(|version| version.alpn()).collect();
        format!("this program speaks {}", names.join(", "))
    })
}

fn broadcast(text: &str) -> Result<Namespace, String> {
    let name = Namespace::from_path(text).map_err(|error| match error {
        NameError::EmptyField => {
            "a broadcast name is not empty, nor is a part of it: leave a slash at its start or end out"
                .into()
        }
        error => error.to_string(),
    })?;
    match name.fields().first() {
        None => Err("a broadcast name is not empty".into()),
        Some(first) if first == RESERVED => {
            Err(format!("names below {RESERVED}/ are the nodes' own"))
        }
        Some(_) => Ok(name),
    }
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
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str())
}

fn variable(key: &str) -> String {
    format!("WEIR_{}", key.replace('-', "_").to_ascii_uppercase())
}

fn refuse(reason: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{reason}\n")).with_cmd(&command())
}

fn settle(
    argv: Vec<OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Config, clap::Error> {
    let flags = command().try_get_matches_from(&argv).map_err(name_flag)?;
    // An empty variable is how compose and unit files say "none".
    let env = |key: &str| env(&variable(key)).filter(|value| !value.is_empty());
    let path = flags.get_one::<PathBuf>("config").cloned();
    let file = match path.or_else(|| env("config").map(PathBuf::from)) {
        Some(path) => Some((read_file(&path)?, path)),
        None => None,
    };
    // What variables and file say goes before the flags, unless a flag says it already.
    let mut words: Vec<OsString> = argv.first().cloned().into_iter().collect();
    for arg in Args::command().get_arguments() {
        let flagged = flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let key = key(arg);
        if flagged || key == "config" {
            continue;
        }
        if let Some(value) = env(key) {
            words.extend(spell(arg, &variable(key), split(arg, &value))?);
        } else if let Some((value, path)) =
            file.as_ref().and_then(|(table, path)| Some((table.get(key)?, path)))
        {
            let origin = format!("{}: {key}", path.display());
            let values = values(value).ok_or_else(|| refuse_at(&origin, "is no text or number"))?;
            words.extend(spell(arg, &origin, values)?);
        }
    }
    words.extend(argv.into_iter().skip(1));
    Args::from_arg_matches(&command().try_get_matches_from(words)?)?.try_into()
}

/// Who gives a word without a flag most likely means the source.
fn name_flag(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && !word.starts_with('-')
    {
        let tip = format!("a source goes behind its flag: --url {word}").into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

fn refuse_at(origin: &str, reason: &str) -> clap::Error {
    refuse(format!("{origin}: {reason}"))
}

/// A variable's values: several only where the setting takes several.
fn split(arg: &Arg, value: &OsStr) -> Vec<OsString> {
    match value.to_str().filter(|_| matches!(arg.get_action(), ArgAction::Append)) {
        Some(list) => {
            list.split([',', ' ']).filter(|value| !value.is_empty()).map(OsString::from).collect()
        }
        None => vec![value.to_owned()],
    }
}

/// A key's values.
fn values(value: &toml::Value) -> Option<Vec<OsString>> {
    match value {
        toml::Value::String(text) => Some(vec![text.into()]),
        toml::Value::Integer(number) => Some(vec![number.to_string().into()]),
        toml::Value::Boolean(truth) => Some(vec![truth.to_string().into()]),
        toml::Value::Array(list) => {
            list.iter().map(values).collect::<Option<Vec<_>>>().map(|lists| lists.concat())
        }
        _ => None,
    }
}

/// The same as words of a command line, once the grammar has accepted them.
fn spell(arg: &Arg, origin: &str, values: Vec<OsString>) -> Result<Vec<OsString>, clap::Error> {
    let flag = format!("--{}", key(arg));
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let on = match values.first().and_then(|value| value.to_str()).unwrap_or_default() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => return Err(refuse_at(origin, "says neither true nor false")),
        };
        return Ok(on.then(|| flag.into()).into_iter().collect());
    }
    let words: Vec<OsString> = values
        .into_iter()
        .map(|value| {
            let mut word = OsString::from(format!("{flag}="));
            word.push(value);
            word
        })
        .collect();
    let alone = std::iter::once(OsString::new()).chain(words.iter().cloned());
    match command().try_get_matches_from(alone) {
        Ok(_) => Ok(words),
        Err(error) => {
            let said = error.to_string();
            let first = said.lines().next().unwrap_or_default();
            Err(refuse_at(origin, first.trim_start_matches("error: ")))
        }
    }
}

/// A TOML file whose keys all mean something.
fn read_file(path: &Path) -> Result<toml::Table, clap::Error> {
    let origin = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| refuse_at(&origin, &error.to_string()))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| refuse_at(&origin, error.to_string().trim_end()))?;
    let command = Args::command();
    let known: Vec<&str> =
        command.get_arguments().map(key).filter(|key| *key != "config").collect();
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
        let reason = format!(
            "unknown key `{key}`{}; the keys are {}",
            nearest(key, &known),
            known.join(", ")
        );
        return Err(refuse_at(&origin, &reason));
    }
    Ok(table)
}

/// What an unknown word was meant to be, as the end of a sentence; nothing if it resembles none.
pub(crate) fn nearest(word: &str, known: &[&str]) -> String {
    /// What is likely a slip of the pen, on strsim's scale from 0 to 1.
    const SIMILAR: f64 = 0.7;
    let likeness = |valid: &str| strsim::jaro_winkler(&word.to_ascii_lowercase(), valid);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.filter(|best| likeness(best) >= SIMILAR)
        .map(|best| format!(", did you mean `{best}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(flags: &[&str], env: &[(&str, &str)]) -> Result<Config, String> {
        let argv =
            std::iter::once("publisher").chain(flags.iter().copied()).map(Into::into).collect();
        let variables =
            |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        settle(argv, variables).map_err(|error| error.to_string())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = settled(&["--url", "test:"], &[]).unwrap();
        assert_eq!(config.relay.as_str(), "moqt://127.0.0.1:4433");
        assert_eq!(config.name, Namespace::from_path("live/test").unwrap());
        assert!(!config.retry_forever && !config.tls.disable_verify);
        assert_eq!(settled(&["--url", "-"], &[]).unwrap().source, Source::Stdin);
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file() {
        let file =
            file("url = \"file.ts\"\nname = \"live/file\"\nrelay = \"moqt://file:1\"\nloop = true");
        let path = file.path().to_str().unwrap();
        let env =
            [("WEIR_CONFIG", path), ("WEIR_NAME", "live/env"), ("WEIR_RELAY", "moqt://env:1")];
        let config = settled(&["--relay", "moqt://flag:1"], &env).unwrap();
        assert_eq!(config.relay.as_str(), "moqt://flag:1");
        assert_eq!(config.name, Namespace::from_path("live/env").unwrap());
        assert_eq!(config.source, Source::File { path: "file.ts".into(), repeat: true });
        let off = [("WEIR_CONFIG", path), ("WEIR_LOOP", "0"), ("WEIR_NAME", "")];
        let config = settled(&[], &off).unwrap();
        assert_eq!(config.source, Source::File { path: "file.ts".into(), repeat: false });
        assert_eq!(config.name, Namespace::from_path("live/file").unwrap());
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let file = file("rellay = \"moqt://a:1\"");
        let error = settled(&["--config", file.path().to_str().unwrap()], &[]).unwrap_err();
        assert!(error.contains("`rellay`, did you mean `relay`?"), "{error}");
    }

    #[test]
    fn wrong_values_are_refused_with_their_place() {
        let file = file("target-latency = \"soon\"");
        let path = file.path().to_str().unwrap();
        for (flags, env, word) in [
            (&[][..], &[][..], "--url SOURCE is missing"),
            (&["--url", "test:", "--relay", "ftp://x"], &[], "moqt://HOST:PORT"),
            (&["--url", "test:", "--name", "weir/nodes/a"], &[], "nodes' own"),
            (&["--url", "test:", "--name", ""], &[], "not empty"),
            (&["--url", "test:", "--name", "/live/x/"], &[], "slash at its start or end"),
            (&["test:"], &[], "--url test:"),
            (&["--url", "test:?fps=x"], &[], "fps=x"),
            (&["--url", "test:", "--tls-fingerprint", "12"], &[], "64 hex digits"),
            (&["--url", "test:", "--moqt-version", "moqt-17"], &[], "speaks moqt-18, moqt-22"),
            (&["--url", "test:"], &[("WEIR_RELAY", "nowhere")], "WEIR_RELAY"),
            (&["--url", "test:"], &[("WEIR_LOOP", "maybe")], "WEIR_LOOP"),
            (&["--url", "test:", "--config", path], &[], "target-latency"),
            (&["--url", "test:", "--config", "/no/such"], &[], "/no/such"),
        ] {
            let error = settled(flags, env).unwrap_err();
            assert!(error.contains(word), "{flags:?} {env:?}: {error}");
        }
    }
}
