//! Decides what to do with a DNS query: answer it, forward it, or drop it.
//!
//! Queries come from functions and are untrusted. Their length is bounded by the caller, and of forwarded ones only
//! header and question are parsed.

use std::net::Ipv4Addr;

use hickory_resolver::proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_resolver::proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable, BinDecoder};

use super::names::{CloudNames, Service};

/// TTL of answers, seconds. The addresses do not change while virga runs.
const TTL: u32 = 60;
/// Length of a message header.
pub(super) const HEADER: usize = 12;

/// The addresses of virga's services inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceAddresses {
    pub(super) api: Ipv4Addr,
    pub(super) buckets: Ipv4Addr,
}

/// The decision about a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Send this answer.
    Answer(Vec<u8>),
    /// Forward it to a resolver of the host.
    Forward(Query),
    /// Send nothing: the message is no valid query.
    Drop,
}

/// Decides about a message. `upstream` says whether there is a resolver to forward to.
pub(super) fn decide(
    message: &[u8],
    names: &CloudNames,
    addresses: ServiceAddresses,
    upstream: bool,
) -> Decision {
    let Some((metadata, query)) = question(message) else {
        return Decision::Drop;
    };
    if metadata.message_type != MessageType::Query {
        return Decision::Drop;
    }
    let name = query.name().to_ascii().to_ascii_lowercase();
    let service = names.find(name.trim_end_matches('.'));
    let reply = match service {
        Some(service) if metadata.op_code == OpCode::Query => {
            answer(message, &metadata, &query, service, addresses)
        }
        _ if upstream => return Decision::Forward(query),
        _ => {
            let mut reply = reply(&metadata, &query);
            reply.metadata.response_code = ResponseCode::Refused;
            reply
        }
    };
    reply.to_vec().map_or(Decision::Drop, Decision::Answer)
}

/// Builds the failure answer to a query that no resolver answered.
pub(super) fn failure(message: &[u8]) -> Option<Vec<u8>> {
    let (metadata, query) = question(message)?;
    let mut reply = reply(&metadata, &query);
    reply.metadata.response_code = ResponseCode::ServFail;
    reply.to_vec().ok()
}

/// Parses a message's header and its question, of which there must be exactly one.
pub(super) fn question(message: &[u8]) -> Option<(Metadata, Query)> {
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder).ok()?;
    if header.counts.queries != 1 {
        return None;
    }
    Some((header.metadata, Query::read(&mut decoder).ok()?))
}

fn reply(metadata: &Metadata, query: &Query) -> Message {
    let mut reply = Message::new(metadata.id, MessageType::Response, metadata.op_code);
    reply.metadata = Metadata::response_from_request(metadata);
    reply.metadata.recursion_available = true;
    reply.add_query(query.clone());
    reply
}

/// Builds the answer for one of virga's names. It has an IPv4 address and no other record. Other query types get an
/// empty answer, so that they are not forwarded.
fn answer(
    message: &[u8],
    metadata: &Metadata,
    query: &Query,
    service: Service,
    addresses: ServiceAddresses,
) -> Message {
    let mut reply = reply(metadata, query);
    reply.metadata.authoritative = true;
    let wanted = matches!(query.query_type(), RecordType::A | RecordType::ANY);
    if wanted && query.query_class() == DNSClass::IN {
        let address = match service {
            Service::Api => addresses.api,
            Service::Buckets => addresses.buckets,
        };
        let data = RData::A(address.into());
        reply.add_answer(Record::from_rdata(query.name().clone(), TTL, data));
    }
    // An EDNS query gets an EDNS answer.
    if Message::from_vec(message).is_ok_and(|asked| asked.edns.is_some()) {
        reply.set_edns(Edns::new());
    }
    reply
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    const ADDRESSES: ServiceAddresses = ServiceAddresses {
        api: Ipv4Addr::new(198, 18, 0, 1),
        buckets: Ipv4Addr::new(198, 18, 0, 5),
    };

    fn asked(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        message
    }

    fn decided(message: &Message, upstream: bool) -> Decision {
        let names = CloudNames::new("ap-guangzhou", true);
        decide(
            &message.to_vec().expect("bytes"),
            &names,
            ADDRESSES,
            upstream,
        )
    }

    fn answered(verdict: Decision) -> Message {
        match verdict {
            Decision::Answer(bytes) => Message::from_vec(&bytes).expect("a message"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cloud_names_are_answered_case_insensitively() {
        for (name, address) in [
            ("scf.tencentcloudapi.com.", ADDRESSES.api),
            ("ScF.Internal.TencentCloudAPI.com.", ADDRESSES.api),
            ("p-1.cos.ap-guangzhou.myqcloud.com.", ADDRESSES.buckets),
        ] {
            let mut message = asked(name, RecordType::A);
            let plain = answered(decided(&message, true));
            assert_eq!((plain.metadata.id, plain.answers.len()), (7, 1), "{name}");
            assert_eq!(plain.answers[0].data, RData::A(address.into()));
            // A client that randomises case compares its own spelling.
            assert_eq!(plain.queries[0].name().to_ascii(), name);
            assert!(plain.edns.is_none() && plain.metadata.recursion_available);
            message.set_edns(Edns::new());
            assert!(answered(decided(&message, true)).edns.is_some());
        }
    }

    #[test]
    fn cloud_names_have_only_a_records_and_are_never_forwarded() {
        for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::TXT] {
            let reply = answered(decided(&asked("scf.tencentcloudapi.com.", kind), true));
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert!(reply.answers.is_empty(), "{kind}");
        }
    }

    #[test]
    fn other_names_are_forwarded_or_refused() {
        let message = asked("example.com.", RecordType::A);
        assert_eq!(
            decided(&message, true),
            Decision::Forward(message.queries[0].clone())
        );
        let refused = answered(decided(&message, false));
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn unanswered_question_gets_servfail() {
        let message = asked("example.com.", RecordType::A);
        let bytes = failure(&message.to_vec().expect("bytes")).expect("an answer");
        let reply = Message::from_vec(&bytes).expect("a message");
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert_eq!((reply.metadata.id, &reply.queries), (7, &message.queries));
    }

    #[test]
    fn messages_that_are_no_question_are_dropped() {
        let names = CloudNames::new("ap-guangzhou", true);
        let mut reply = asked("scf.tencentcloudapi.com.", RecordType::A);
        reply.metadata.message_type = MessageType::Response;
        let two = {
            let mut two = asked("scf.tencentcloudapi.com.", RecordType::A);
            two.add_query(two.queries[0].clone());
            two
        };
        let rows = [
            Vec::new(),
            vec![0; HEADER],
            vec![0xff; 512],
            reply.to_vec().expect("bytes"),
            two.to_vec().expect("bytes"),
        ];
        for bytes in rows {
            assert_eq!(
                decide(&bytes, &names, ADDRESSES, true),
                Decision::Drop,
                "{bytes:?}"
            );
        }
    }
}
