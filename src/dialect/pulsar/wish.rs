//! The role that a handshake asks for, from its path and query.

use super::params::{self, ParamError, Params};
use super::path::PulsarEndpoint;
use super::role::{ProducerState, PulsarRole, PulsarWish, RoleState};
use super::volatile::VolatileListener;
use crate::dialect::{Context, Upgrade};
use crate::service::topic::{Flow, TopicDomain, TopicQuestion, WantedTopics};

/// The role that a handshake asks for, and the question for the owner of the topics.
pub(super) fn wish(
    endpoint: PulsarEndpoint,
    upgrade: &Upgrade<'_>,
    context: &mut Context<'_>,
) -> (PulsarRole, PulsarWish) {
    let (params, remote) = (Params::read(upgrade.query), upgrade.remote);
    let mut consumer = |topics: Result<WantedTopics, ParamError>, subscription: &str| {
        let consuming = params::consuming(&params, topics?, subscription, remote, context.rng)?;
        let then = match &consuming.topics {
            // These messages do not pass the owner: the session filters them itself.
            WantedTopics::One(topic) if topic.domain() == TopicDomain::NonPersistent => {
                let listener =
                    VolatileListener::consumer(topic.clone(), consuming.kind, consuming.flow);
                RoleState::Listener(Box::new(listener))
            }
            _ if consuming.flow == Flow::Pull => RoleState::Pull,
            _ => RoleState::None,
        };
        Ok((TopicQuestion::Consume(Box::new(consuming)), then))
    };
    match endpoint {
        PulsarEndpoint::Consumer(topic, subscription) => {
            (PulsarRole::Consumer, wish_of(consumer(Ok(WantedTopics::One(topic)), &subscription)))
        }
        PulsarEndpoint::Several(subscription) => {
            (PulsarRole::Consumer, wish_of(consumer(params::wanted(&params), &subscription)))
        }
        PulsarEndpoint::Producer(topic) => {
            let made = params::producing(&params, topic, remote).map(|(producing, encryption)| {
                let (topic, name) = (producing.topic.clone(), producing.name.clone());
                let producer = ProducerState { topic, name, encryption, sent: 0 };
                (
                    TopicQuestion::Produce(Box::new(producing)),
                    RoleState::Producer(Box::new(producer)),
                )
            });
            (PulsarRole::Producer, wish_of(made))
        }
        PulsarEndpoint::Reader(topic) => {
            let made = params::reading(&params, topic, remote, context.rng).map(|reading| {
                let then = match reading.topic.domain() {
                    TopicDomain::NonPersistent => RoleState::Listener(Box::new(
                        VolatileListener::reader(reading.topic.clone(), reading.window),
                    )),
                    TopicDomain::Persistent => RoleState::None,
                };
                (TopicQuestion::Read(Box::new(reading)), then)
            });
            (PulsarRole::Reader, wish_of(made))
        }
        PulsarEndpoint::PingPong => (PulsarRole::PingPong, PulsarWish::none(String::new())),
    }
}

fn wish_of(made: Result<(TopicQuestion, RoleState), ParamError>) -> PulsarWish {
    match made {
        Ok((request, then)) => PulsarWish { request: Some(Ok(request)), then },
        Err(reason) => PulsarWish::none(reason),
    }
}
