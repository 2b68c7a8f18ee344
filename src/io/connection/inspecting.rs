//! What operators ask about connections: addresses are added here to what the shard knows.

use super::Sockets;
use crate::inspect::{SessionAnswer, SessionInquiry, SocketFacts};
use crate::proxy::Remote;
use crate::service::ConnectionRef;
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::AsFd as _;
use std::net::SocketAddr;

impl Sockets {
    /// Answers an operator's question.
    pub(in crate::io) fn inspect(
        &self,
        shard: &mut Shard,
        inquiry: &SessionInquiry,
        now: Now,
    ) -> SessionAnswer {
        match inquiry {
            SessionInquiry::List(walk) => {
                let (rows, next) = shard.list(walk, |id| self.facts(id), now);
                SessionAnswer::Rows(rows, next)
            }
            SessionInquiry::One(session) => {
                let mut found = shard.detail(*session, self.facts(session.id), now);
                if let Some(found) = &mut found {
                    found.listener = self.listener(*session);
                }
                SessionAnswer::One(found.map(Box::new))
            }
            SessionInquiry::Kick(walk, kick) => {
                let (count, next) = shard.kick_all(walk, kick, |id| self.facts(id), now);
                SessionAnswer::Kicked(count, next)
            }
            SessionInquiry::Why(walk, publications) => {
                let (rows, next) = shard.explain(walk, publications, |id| self.facts(id), now);
                SessionAnswer::Why(rows, next)
            }
            SessionInquiry::KickOne(session, kick) => {
                SessionAnswer::Kicked(shard.kick_one(*session, kick, now).into(), None)
            }
        }
    }

    fn facts(&self, id: Id) -> SocketFacts {
        let Some(Some(socket)) = self.sockets.get(id as usize) else {
            return SocketFacts::default();
        };
        SocketFacts {
            remote: self.clients.remote(id, socket.fd.as_fd()),
            is_tls: socket.tls.is_some(),
        }
    }

    /// The address that a client has connected to.
    fn listener(&self, session: ConnectionRef) -> Option<Remote> {
        let socket = self.sockets.get(session.id as usize)?.as_ref()?;
        let address = rustix::net::getsockname(&socket.fd).ok()?;
        SocketAddr::try_from(address).ok().map(Remote::from)
    }
}
