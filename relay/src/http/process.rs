//! What the operating system says of this process, in the names that every Prometheus client uses.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::process::Resource;
use rustix::time::ClockId;

use super::metrics::{BYTES, SECONDS, Sheet};

/// Goes under the prefix `process`. What the system doesn't tell is left out.
#[derive(Debug)]
pub(super) struct Process {
    cpu: Duration,
    /// Since the epoch.
    started: Duration,
    resident: Option<u64>,
    virtual_memory: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    max_files: Option<u64>,
}

impl Process {
    /// Reads it now; `started`: since the epoch.
    pub(super) fn read(started: Duration) -> Self {
        let cpu = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = |name| Some(field(&status, name)? * 1024);
        let files = std::fs::read_dir("/proc/self/fd").ok();
        Self {
            cpu: Duration::new(cpu.tv_sec.try_into().unwrap_or(0), cpu.tv_nsec as u32),
            started,
            resident: kibibytes("VmRSS"),
            virtual_memory: kibibytes("VmSize"),
            threads: field(&status, "Threads"),
            // The one that lists them is open too.
            open_files: files.map(|files| (files.count() as u64).saturating_sub(1)),
            max_files: rustix::process::getrlimit(Resource::Nofile).current,
        }
    }
}

/// The number in a line such as `VmRSS:  1234 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Sheet(&mut encoder);
        let started = self.started.as_secs_f64();
        to.counter("cpu", "CPU time spent", SECONDS, self.cpu.as_secs_f64())?;
        to.gauge("start_time", "When the process started, Unix time", SECONDS, started)?;
        let gauges = [
            ("resident_memory", "Memory in use", BYTES, self.resident),
            ("virtual_memory", "Memory reserved", BYTES, self.virtual_memory),
            ("threads", "Threads", None, self.threads),
            ("open_fds", "Open file descriptors", None, self.open_files),
            ("max_fds", "File descriptors that may be open", None, self.max_files),
        ];
        for (name, help, unit, value) in gauges {
            if let Some(value) = value {
                to.gauge(name, help, unit, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_status_is_found_by_its_whole_name() {
        let status = "VmRSSX:\t1 kB\nVmRSS:\t  1234 kB\nThreads:\t5\n";
        assert_eq!(field(status, "VmRSS"), Some(1234));
        assert_eq!(field(status, "Threads"), Some(5));
        assert_eq!(field(status, "Vm"), None);
    }
}
