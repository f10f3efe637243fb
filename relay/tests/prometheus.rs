//! Prometheus itself (Debian's package `prometheus`) scrapes a relay and takes the rules.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Machine, PATIENCE};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that runs until this is dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// `None` where it is not installed.
    fn start(dir: &Path, config: &str) -> Option<Self> {
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match process {
            Ok(process) => Some(Self { process, address }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn get(&self, path: &str) -> std::io::Result<Value> {
        let mut stream = tokio::net::TcpStream::connect(self.address).await?;
        // In one piece: no chunks.
        let head = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok(serde_json::from_str(body)?)
    }

    /// Asks until there is an answer and it is as wanted.
    async fn says(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let body = self.get(path).await.ok();
            if let Some(said) =
                body.as_ref().map(|body: &Value| &body["data"]).filter(|it| wanted(it))
            {
                return said.clone();
            }
            assert!(Instant::now() < deadline, "{path}: {body:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_a_relay_that_asks_for_a_token_and_evaluates_the_rules() {
    const TOKEN: &str = "b86f0d2c-for-prometheus";
    let machine = Machine::new();
    let token = machine.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let relay = machine.relay("edge-1", &["--admin-token-file", token.to_str().unwrap()]);
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.yml");
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n\
         - job_name: weir\n  authorization: {{ credentials_file: '{}' }}\n\
         \x20 static_configs: [{{ targets: ['{}'] }}]\n",
        rules.canonicalize().unwrap().display(),
        token.display(),
        relay.admin_addr(),
    );
    let Some(prometheus) = Prometheus::start(machine.path(), &config) else { return };

    let is_up = |data: &Value| data["activeTargets"][0]["health"] == "up";
    let targets = prometheus.says("/api/v1/targets", is_up).await;
    assert_eq!(targets["activeTargets"][0]["lastError"], "");
    let query = "/api/v1/query?query=weir_node_info";
    let found = prometheus.says(query, |data| !data["result"][0].is_null()).await;
    assert_eq!(found["result"][0]["metric"]["node"], "edge-1");

    let evaluated = |data: &Value| {
        let groups = data["groups"].as_array().into_iter().flatten();
        let mut rules = groups.flat_map(|group| group["rules"].as_array().unwrap()).peekable();
        rules.peek().is_some() && rules.all(|rule| rule["health"] == "ok")
    };
    let rules = prometheus.says("/api/v1/rules", evaluated).await;
    let all = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(all.iter().all(|rule| rule["state"] == "inactive"), "a healthy relay alarms: {all:#?}");
}
