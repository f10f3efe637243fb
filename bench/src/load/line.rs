//! Lines that are slower than this machine's own.

use std::net::SocketAddr;

use netsim::{LinkConfig, ProxyConfig, UdpProxy};
use url::Url;

/// A line in words, `rate=3M delay=20`, for the option that named it.
pub(super) fn parse(option: &str, words: &str) -> Result<LinkConfig, String> {
    let mut link = LinkConfig::default();
    link.apply(words).map_err(|error| format!("{option}: {error}"))?;
    Ok(link)
}

/// Puts lines in front of a server, up and down; the URL leads through them while the proxy lives.
pub(super) async fn before(
    server: &Url,
    up: LinkConfig,
    down: LinkConfig,
    seed: u64,
) -> Result<(Url, UdpProxy), String> {
    let mut addresses = server.socket_addrs(|| Some(443)).map_err(|error| error.to_string())?;
    let address = addresses.pop().ok_or("the relay has no address")?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let proxy = UdpProxy::start(any, address, ProxyConfig { up, down, seed }).await;
    let proxy = proxy.map_err(|error| error.to_string())?;
    let mut through = server.clone();
    let local = proxy.local_addr();
    through.set_ip_host(local.ip()).map_err(|()| "the relay's URL has no host")?;
    through.set_port(Some(local.port())).map_err(|()| "the relay's URL has no port")?;
    Ok((through, proxy))
}
