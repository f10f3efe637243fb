//! Runs the publisher and reads what it says.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running publisher; dropping it kills it.
pub(crate) struct Publisher(Child);

/// How a publisher ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Publisher {
    /// Starts it with arguments, and with standard input closed or a pipe.
    pub(crate) fn start(args: &[&str], pipe: bool) -> Self {
        Self::start_with(&[], args, pipe)
    }

    /// The same with variables.
    pub(crate) fn start_with(env: &[(&str, &str)], args: &[&str], pipe: bool) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_publisher"));
        // What this machine's environment says must not matter.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
            command.env_remove(name);
        }
        let child = command
            .args(args)
            .envs(env.iter().copied())
            .stdin(if pipe { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        Self(child.expect("the publisher starts"))
    }

    /// The pipe to its standard input.
    pub(crate) fn stdin(&mut self) -> tokio::process::ChildStdin {
        self.0.stdin.take().expect("started with a pipe")
    }

    /// Asks it to end, as a service manager does.
    pub(crate) async fn terminate(&self) {
        let id = self.0.id().expect("it runs").to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(kill.is_ok_and(|status| status.success()));
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Ended {
        let mut log = String::new();
        let mut stderr = self.0.stderr.take().expect("stderr is a pipe");
        let all = async {
            stderr.read_to_string(&mut log).await.expect("the log is text");
            self.0.wait().await.expect("it can be waited for")
        };
        let status: ExitStatus =
            tokio::time::timeout(PATIENCE, all).await.expect("the publisher hangs");
        Ended { code: status.code(), log }
    }
}

/// A small real media file.
pub(crate) fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/media/tests/data");
    path.join(name).to_str().expect("a path in UTF-8").to_owned()
}
