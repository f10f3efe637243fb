//! The ports of the demo's two relays.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// A relay's ports, as its flags name them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) listen: u16,
    pub(crate) http: u16,
    pub(crate) admin: u16,
}

/// What `relay` uses when it isn't told.
pub(crate) const ROOT: Ports = Ports { listen: 4433, http: 8080, admin: 4480 };
pub(crate) const EDGE: Ports = Ports { listen: 4443, http: 8081, admin: 4481 };

impl Ports {
    /// The `usual` ports, each `offset` higher.
    pub(crate) fn usual(usual: Self, offset: u16) -> Result<Self> {
        let moved = |port: u16| {
            port.checked_add(offset)
                .with_context(|| format!("--offset {offset} leads past the last port, 65535"))
        };
        Ok(Self {
            listen: moved(usual.listen)?,
            http: moved(usual.http)?,
            admin: moved(usual.admin)?,
        })
    }

    /// Fails, and names the port and the way out, when another program holds one of them.
    pub(crate) fn ensure_free(&self, node: &str, offset: u16) -> Result<()> {
        let loopback = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop);
        for (port, kind, attempt) in [
            (self.listen, "UDP", any(|at| UdpSocket::bind(at).map(drop), self.listen)),
            (self.listen, "TCP", any(|at| TcpListener::bind(at).map(drop), self.listen)),
            (self.http, "TCP", loopback(self.http)),
            (self.admin, "TCP", loopback(self.admin)),
        ] {
            match attempt {
                Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
                    "port {port} ({kind}), for the {node} relay, is in use by another program; \
                     end that one, or choose other ports with --offset {}",
                    offset.saturating_add(100)
                ),
                Err(error) => {
                    let what = format!("cannot use port {port} ({kind}) for the {node} relay");
                    return Err(error).context(what);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// Binds to all addresses as a relay does: both families, or IPv4 alone where there is no IPv6.
fn any(bind: impl Fn(SocketAddr) -> io::Result<()>, port: u16) -> io::Result<()> {
    match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != ErrorKind::AddrInUse => {
            bind((Ipv4Addr::UNSPECIFIED, port).into())
        }
        bound => bound,
    }
}

/// An HTTP answer, raw.
#[derive(Debug)]
pub(crate) struct Answer(String);

impl Answer {
    /// Whether its status is 200.
    pub(crate) fn is_ok(&self) -> bool {
        self.0.split(' ').nth(1) == Some("200")
    }

    /// Whether it is good and has `text` in it.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.is_ok() && self.0.contains(text)
    }
}

/// Asks a program on this machine over HTTP; `None` when it gives no answer.
pub(crate) fn get(port: u16, path: &str) -> Option<Answer> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const LONGEST_ANSWER: u64 = 1 << 20;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // Version 1.0: the server closes behind its answer.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).ok()?;
    Some(Answer(String::from_utf8_lossy(&answer).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = holder.local_addr().unwrap().port();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let other = free.local_addr().unwrap().port();
        drop(free);
        let ports = Ports { listen: other, http: taken, admin: other };
        let error = ports.ensure_free("edge", 200).unwrap_err().to_string();
        assert!(error.contains(&taken.to_string()), "{error}");
        assert!(error.contains("--offset 300"), "{error}");
        assert!(error.contains("edge"), "{error}");
    }

    #[test]
    fn an_offset_moves_every_port_and_must_leave_room() {
        let moved = Ports::usual(EDGE, 100).unwrap();
        assert_eq!((moved.listen, moved.http, moved.admin), (4543, 8181, 4581));
        assert!(Ports::usual(EDGE, 60_000).is_err());
    }
}
