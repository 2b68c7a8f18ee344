//! The choice of the server to connect to.
//!
//! The client's own is any of them, the one that was just given up included: it costs another two
//! seconds where a cable is cut, and finds no other side of a cluster that is.

use async_nats::{Client, ReconnectToServer, Server, ServerAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server may take to accept a connection before it is out of reach.
const REACH_MAX: Duration = Duration::from_secs(2);

/// The servers of the round: each is tried once before any is tried again, and the one that was
/// lost counts as tried.
#[derive(Default)]
pub(super) struct ServerChoice {
    tried: Mutex<Vec<ServerAddr>>,
}

impl ServerChoice {
    /// Gives up the connection of the client for one to another server, if one accepts connections:
    /// an engine that is left with one server is not left for it.
    pub(super) async fn change(&self, client: &Client) {
        let Ok(servers) = client.server_pool().await else { return };
        let current = self.tried().last().cloned();
        for server in servers.iter().filter(|server| Some(&server.addr) != current.as_ref()) {
            let place =
                (server.addr.host().trim_matches(['[', ']']).to_owned(), server.addr.port());
            if matches!(timeout(REACH_MAX, TcpStream::connect(place)).await, Ok(Ok(_))) {
                // A client that has ended needs no other server.
                let _ = client.force_reconnect().await;
                return;
            }
        }
    }

    fn tried(&self) -> MutexGuard<'_, Vec<ServerAddr>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server to try next of those that the client knows: one that has failed least often, any
    /// of several. Also tells whether a round is over in vain.
    pub(super) fn next(&self, servers: &[Server]) -> (Option<ReconnectToServer>, bool) {
        let mut tried = self.tried();
        let has_worked =
            |server: &Server| server.failed_attempts == 0 && tried.last() == Some(&server.addr);
        if servers.iter().any(has_worked) {
            let before = tried.len() - 1;
            tried.drain(..before);
        }

        let mut left: Vec<&Server> =
            servers.iter().filter(|server| !tried.contains(&server.addr)).collect();
        let is_over = left.is_empty();
        if is_over {
            tried.clear();
            left = servers.iter().collect();
        }
        let least = left.iter().map(|server| server.failed_attempts).min();
        left.retain(|server| Some(server.failed_attempts) == least);
        let chosen = left.get(random_below(left.len())).map(|server| server.addr.clone());
        tried.extend(chosen.clone());
        (chosen.map(|addr| ReconnectToServer { addr, delay: None }), is_over)
    }
}

/// A random number, so that the nodes of a lost server spread over the others.
fn random_below(count: usize) -> usize {
    let mut random = [0; 8];
    // Without random numbers the first is as good as any.
    let _ = getrandom::fill(&mut random);
    (u64::from_le_bytes(random) % count.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(failed: &[(&str, usize)]) -> Vec<Server> {
        let server = |(name, failed_attempts): &(&str, usize)| Server {
            addr: format!("nats://{name}:4222").parse().unwrap(),
            failed_attempts: *failed_attempts,
            did_connect: false,
            is_discovered: false,
            last_error: None,
        };
        failed.iter().map(server).collect()
    }

    fn next(choice: &ServerChoice, failed: &[(&str, usize)]) -> (String, bool) {
        let (chosen, is_over) = choice.next(&pool(failed));
        (chosen.unwrap().addr.host().to_owned(), is_over)
    }

    #[test]
    fn a_server_that_was_lost_is_tried_after_all_others() {
        let choice = ServerChoice::default();
        for _ in 0..50 {
            let (first, _) = next(&choice, &[("a", 0), ("b", 0)]);
            assert_eq!(
                next(&choice, &[("a", 0), ("b", 0)]),
                (if first == "a" { "b" } else { "a" }.to_owned(), false)
            );
        }
        let choice = ServerChoice::default();
        assert_eq!(next(&choice, &[("a", 0)]), ("a".into(), false));
        assert_eq!(next(&choice, &[("a", 0)]), ("a".into(), true), "there is no other");
    }

    #[test]
    fn each_server_is_tried_once_in_a_round_the_failing_ones_last() {
        let choice = ServerChoice::default();
        assert_eq!(next(&choice, &[("a", 3), ("b", 0), ("c", 1)]), ("b".into(), false));
        assert_eq!(next(&choice, &[("a", 3), ("b", 1), ("c", 1)]), ("c".into(), false));
        assert_eq!(next(&choice, &[("a", 3), ("b", 1), ("c", 2)]), ("a".into(), false));
        assert_eq!(next(&choice, &[("a", 4), ("b", 1), ("c", 2)]), ("b".into(), true));
        assert!(choice.next(&[]).0.is_none());
    }
}
