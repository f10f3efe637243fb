//! What one peer may make the relay hold. Whoever goes past a bound harms itself only.

use std::time::Duration;

use transport::Limits;

use super::values::{parse_size, parse_span};

/// Flags of their own group in the help.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bounds for each session")]
pub(super) struct LimitArgs {
    /// Requests a peer may have open; one more is refused with EXCESSIVE_LOAD. A relay of the tree
    /// may have 16 times as many
    #[arg(long, value_name = "N", default_value = "512",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_requests: u32,
    /// Updates of one request that may be unanswered (TOO_MANY_REQUEST_UPDATES)
    #[arg(long, value_name = "N", default_value = "256",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_updates: u32,
    /// Namespaces a parent may list
    #[arg(long, value_name = "N", default_value = "16384",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_namespaces: u32,
    /// Bytes of all their names
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_size)]
    max_namespace_bytes: usize,
    /// Messages that a peer has begun and not finished, together
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_size)]
    max_unfinished: usize,
    /// Authorization tokens a peer may register (AUTH_TOKEN_CACHE_OVERFLOW)
    #[arg(long, value_name = "SIZE", default_value = "8KiB", value_parser = parse_size)]
    max_token_bytes: usize,
    /// Data streams that may wait for the answer that names their track
    #[arg(long, value_name = "N", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_waiting_streams: u32,
    /// How long they may wait
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_span)]
    waiting_timeout: Duration,
    /// Media that may come faster than it is passed on: QUIC's receive window
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_size)]
    max_unread: usize,
    /// The same of one stream
    #[arg(long, value_name = "SIZE", default_value = "1250kB", value_parser = parse_size)]
    max_unread_stream: usize,
    /// Datagrams that may come faster than they are passed on
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = parse_size)]
    max_unread_datagrams: usize,
    /// Answers that a peer may leave unread
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    max_unsent: usize,
    /// How long SETUP may take (CONTROL_MESSAGE_TIMEOUT)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_span)]
    setup_timeout: Duration,
    /// How long a request stream may take to say what it asks (CONTROL_MESSAGE_TIMEOUT)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_span)]
    request_timeout: Duration,
    /// How long a data stream may take to say whose it is (DATA_STREAM_TIMEOUT)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_span)]
    header_timeout: Duration,
}

impl From<LimitArgs> for Limits {
    fn from(args: LimitArgs) -> Self {
        Self {
            session: moqt::Limits {
                requests: args.max_requests as usize,
                namespaces: args.max_namespaces as usize,
                namespace_bytes: args.max_namespace_bytes,
                updates: args.max_updates as usize,
                unfinished_bytes: args.max_unfinished,
                token_bytes: args.max_token_bytes as u64,
                setup_timeout: args.setup_timeout,
            },
            waiting_streams: args.max_waiting_streams as usize,
            waiting_timeout: args.waiting_timeout,
            header_timeout: args.header_timeout,
            request_timeout: args.request_timeout,
            unsent_bytes: args.max_unsent,
            unread_bytes: args.max_unread as u64,
            unread_stream_bytes: args.max_unread_stream as u64,
            unread_datagram_bytes: args.max_unread_datagrams,
        }
    }
}
