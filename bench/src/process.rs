//! What a process costs, read from `/proc`.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

/// What a process had used at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// CPU seconds outside the kernel, of all its threads.
    pub user_s: f64,
    /// CPU seconds inside the kernel.
    pub system_s: f64,
    /// Resident memory, bytes.
    pub rss: u64,
    /// CPU seconds of each thread that lives, by its number.
    pub threads: Vec<(u32, f64)>,
}

impl Sample {
    /// Takes a sample of a process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn take(pid: u32) -> io::Result<Self> {
        let (user_s, system_s) = cpu(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let rss = pages.ok_or_else(unreadable)? * rustix::param::page_size() as u64;
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // A thread may end while we look.
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
            let (user, system) = cpu(&stat)?;
            let id = task.file_name().to_str().and_then(|name| name.parse().ok());
            threads.extend(id.map(|id| (id, user + system)));
        }
        Ok(Self { user_s, system_s, rss, threads })
    }

    /// CPU seconds in and outside the kernel.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// CPU seconds of each thread since `earlier`, the busiest first.
    pub fn threads_since(&self, earlier: &Self) -> Vec<f64> {
        let before = |id| earlier.threads.iter().find(|(other, _)| *other == id);
        let mut used: Vec<f64> = self
            .threads
            .iter()
            .map(|(id, cpu)| cpu - before(*id).map_or(0.0, |(_, cpu)| *cpu))
            .collect();
        used.sort_by(|a, b| b.total_cmp(a));
        used
    }
}

/// User and system time out of a `stat` file. The name in it may hold spaces and parentheses.
fn cpu(stat: &str) -> io::Result<(f64, f64)> {
    let fields = stat.rsplit_once(')').ok_or_else(unreadable)?.1;
    // After the name the state is field 3 of proc(5); utime and stime are 14 and 15.
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<f64>().ok());
    let (user, system) = (ticks().ok_or_else(unreadable)?, ticks().ok_or_else(unreadable)?);
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok((user / per_second, system / per_second))
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "/proc is not in the form that Linux gives it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_no_field() {
        let stat = "12 (a (b) c) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 5 0 99";
        let (user, system) = cpu(stat).unwrap();
        assert!((user / system - 5.0).abs() < 1e-9, "{user} {system}");
    }

    #[test]
    fn work_shows() {
        let before = Sample::take(std::process::id()).unwrap();
        let mut sum = 0u64;
        loop {
            sum = (0..1_000_000u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
            let after = Sample::take(std::process::id()).unwrap();
            if after.cpu_s() > before.cpu_s() {
                assert!(after.threads_since(&before)[0] >= 0.0);
                assert!(after.rss > 0);
                return;
            }
        }
    }
}
