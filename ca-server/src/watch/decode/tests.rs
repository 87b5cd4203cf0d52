//! What agents may not say.

use proptest::prelude::*;
use prost::Message as _;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn decode(message: wire::agent_message::Message) -> Result<Said, Malformed> {
    let message = wire::AgentMessage {
        message: Some(message),
    };
    Said::decode(message, &Limits::default(), NOW)
}

#[track_caller]
fn refused(message: wire::agent_message::Message, field: &str) {
    assert_eq!(decode(message).unwrap_err().field, field);
}

fn announcing(address: &str, port: u32) -> wire::agent_message::Message {
    let announcement = mesh::Announcement {
        namespace: "shop".to_owned(),
        service: "orders".to_owned(),
        endpoint: Some(mesh::Endpoint {
            address: address.to_owned(),
            ports: [("http".to_owned(), port)].into(),
            zone: String::new(),
        }),
    };
    wire::agent_message::Message::Announcements(wire::Announcements {
        announcements: vec![wire::AgentAnnouncement {
            workload: "shop/orders".to_owned(),
            announcement: Some(announcement),
        }],
        sequence: 1,
    })
}

fn hello(major: u32) -> wire::agent_message::Message {
    wire::agent_message::Message::Hello(wire::Hello {
        version: Some(mesh::ProtocolVersion { major, ..PROTOCOL }),
        agent_time_unix_ms: 1_780_315_205_000,
        ..wire::Hello::default()
    })
}

#[test]
fn a_protocol_that_does_not_interoperate_is_refused() {
    refused(hello(PROTOCOL.major + 1), "hello.version");
}

#[test]
fn an_agent_that_holds_what_is_not_understood_starts_over() {
    let holding = |kind: &str| {
        let hello = wire::Hello {
            version: Some(PROTOCOL),
            resume: Some(mesh::Revision {
                epoch: 1,
                number: 2,
            }),
            held: vec![wire::HeldObject {
                key: Some(mesh::ObjectKey {
                    kind: kind.to_owned(),
                    namespace: "shop".to_owned(),
                    name: "orders".to_owned(),
                }),
                revision: Some(mesh::Revision {
                    epoch: 1,
                    number: 1,
                }),
            }],
            ..wire::Hello::default()
        };
        match decode(wire::agent_message::Message::Hello(hello)).unwrap() {
            Said::Hello(hello) => hello.resume.is_some(),
            said => panic!("{said:?}"),
        }
    };
    assert!(!holding("Mirage"));
    assert!(holding("Route"));
}

#[test]
fn of_the_reserved_port_names_only_the_health_listener_s_is_taken() {
    let named = |name: &str| {
        let mut message = announcing("10.0.0.7", 80);
        let wire::agent_message::Message::Announcements(list) = &mut message else {
            unreachable!("it announces");
        };
        let endpoint = list.announcements[0].announcement.as_mut().unwrap();
        endpoint.endpoint.as_mut().unwrap().ports = [(name.to_owned(), 80)].into();
        message
    };
    refused(named("countersign-other"), "endpoint.ports");
    assert!(decode(named("countersign-health")).is_ok());
}

#[test]
fn an_address_that_is_none_is_refused() {
    for address in ["", "a b", "http://x", "::1]:80", "-x.example"] {
        refused(announcing(address, 80), "endpoint.address");
    }
}

#[test]
fn a_port_that_is_none_is_refused() {
    refused(announcing("127.0.0.1", 0), "endpoint.ports");
    refused(announcing("127.0.0.1", 65_536), "endpoint.ports");
}

#[test]
fn more_subscriptions_than_the_limit_are_refused() {
    let services = vec!["a.b".to_owned(); 4_097];
    let message = wire::agent_message::Message::Subscriptions(wire::Subscriptions { services });
    refused(message, "subscriptions.services");
}

#[test]
fn the_offset_of_an_agents_clock_is_told() {
    let Ok(Said::Hello(hello)) = decode(hello(PROTOCOL.major)) else {
        panic!("refused");
    };
    assert_eq!(hello.introduction.clock_offset, time::Duration::seconds(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(message) = wire::AgentMessage::decode(bytes.as_slice()) {
            let _ = Said::decode(message, &Limits::default(), NOW);
        }
    }
}
