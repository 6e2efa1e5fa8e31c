//! Trusted proxies in front of virga, and the clients that they name.
//!
//! A trusted proxy may begin a connection with a PROXY protocol header of version 1 or 2, or name the client in
//! `X-Forwarded-For`. The header is ignored from any other peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The longest header of version 1, and the longest accepted one of version 2, in bytes.
const V1_MAX: usize = 107;
const V2_MAX: usize = 2048;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FORWARDED: &str = "x-forwarded-for";

/// A network of trusted proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

impl FromStr for TrustedProxy {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = text.parse::<IpAddr>().map(IpNet::from);
        one.or_else(|_| text.parse()).map(Self)
    }
}

/// Returns whether an address is a trusted proxy's.
pub(crate) fn is_trusted(proxies: &[TrustedProxy], address: IpAddr) -> bool {
    let address = address.to_canonical();
    proxies
        .iter()
        .any(|TrustedProxy(net)| net.contains(&address))
}

/// Returns the client for which the trusted proxy `from` speaks: the last hop of `X-Forwarded-For` that is not a trusted
/// proxy, or the proxy itself.
pub fn client(proxies: &[TrustedProxy], from: IpAddr, headers: &HeaderMap) -> IpAddr {
    let values = headers.get_all(FORWARDED).iter();
    let hops: Vec<&str> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut client = from;
    for hop in hops.into_iter().rev() {
        // Hops before an unreadable one cannot be trusted.
        let Some(hop) = hop_address(hop) else { break };
        client = hop;
        if !is_trusted(proxies, hop) {
            break;
        }
    }
    client
}

/// Returns the `X-Forwarded-For` for functions: the hops named by a trusted proxy, and the peer itself.
pub fn forwarded(trusted: bool, peer: IpAddr, headers: &HeaderMap) -> String {
    let said = headers.get_all(FORWARDED).iter();
    let said = said
        .filter(|_| trusted)
        .filter_map(|value| value.to_str().ok());
    let peer = peer.to_canonical().to_string();
    let hops: Vec<&str> = said.chain([peer.as_str()]).collect();
    hops.join(", ")
}

/// Parses the address of a hop, with or without a port.
fn hop_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let plain = text.parse::<IpAddr>().ok();
    let with_port = || {
        let socket = text.parse::<std::net::SocketAddr>().ok();
        socket.map(|socket| socket.ip())
    };
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    plain.or_else(with_port).or_else(bracketed)
}

/// The PROXY protocol header at the start of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// No PROXY protocol header.
    None,
    /// More bytes are needed.
    Partial,
    /// A header with its length; it may name no client.
    Header(usize, Option<IpAddr>),
    /// A malformed header.
    Malformed,
}

/// Parses the start of a connection.
pub(crate) fn read_proxy_header(bytes: &[u8]) -> ProxyHeader {
    let begins = |with: &[u8]| {
        let length = bytes.len().min(with.len());
        bytes[..length] == with[..length]
    };
    if bytes.is_empty() {
        return ProxyHeader::Partial;
    }
    if begins(V2) {
        return if bytes.len() < V2.len() + 4 {
            ProxyHeader::Partial
        } else {
            version_2(bytes)
        };
    }
    if begins(b"PROXY ") {
        return version_1(bytes);
    }
    ProxyHeader::None
}

fn version_1(bytes: &[u8]) -> ProxyHeader {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_MAX {
            ProxyHeader::Partial
        } else {
            ProxyHeader::Malformed
        };
    };
    if end + 2 > V1_MAX {
        return ProxyHeader::Malformed;
    }
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else {
        return ProxyHeader::Malformed;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", client, _, _, _] => match client.parse::<Ipv4Addr>() {
            Ok(client) => Some(IpAddr::V4(client)),
            Err(_) => return ProxyHeader::Malformed,
        },
        ["PROXY", "TCP6", client, _, _, _] => match client.parse::<Ipv6Addr>() {
            Ok(client) => Some(IpAddr::V6(client)),
            Err(_) => return ProxyHeader::Malformed,
        },
        _ => return ProxyHeader::Malformed,
    };
    ProxyHeader::Header(end + 2, client)
}

/// Parses a header of version 2 whose fixed part is complete.
fn version_2(bytes: &[u8]) -> ProxyHeader {
    let Some([command, family, high, low]) = bytes.get(V2.len()..V2.len() + 4) else {
        return ProxyHeader::Partial;
    };
    let rest = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = V2.len() + 4 + rest;
    if command >> 4 != 2 || whole > V2_MAX {
        return ProxyHeader::Malformed;
    }
    let Some(addresses) = bytes.get(V2.len() + 4..whole) else {
        return ProxyHeader::Partial;
    };
    let client = match (command & 0xf, family >> 4) {
        // A connection of the proxy itself, such as a health check.
        (0, _) => None,
        (1, 1) => {
            let octets = addresses
                .first_chunk::<12>()
                .and_then(|all| all.first_chunk::<4>());
            match octets {
                Some(octets) => Some(IpAddr::from(*octets)),
                None => return ProxyHeader::Malformed,
            }
        }
        (1, 2) => {
            let octets = addresses
                .first_chunk::<36>()
                .and_then(|all| all.first_chunk::<16>());
            match octets {
                Some(octets) => Some(IpAddr::from(*octets)),
                None => return ProxyHeader::Malformed,
            }
        }
        (1, _) => None,
        _ => return ProxyHeader::Malformed,
    };
    ProxyHeader::Header(whole, client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn proxy_headers_of_both_versions_name_the_client() {
        let v2 = |command: u8, family: u8, rest: &[u8]| {
            let length = (rest.len() as u16).to_be_bytes();
            [V2, &[0x20 | command, family], &length, rest, b"GET /"].concat()
        };
        let inet = [192, 0, 2, 7, 10, 0, 0, 1, 1, 1, 2, 2];
        let mut inet6 = [0; 36];
        inet6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().expect("one").octets());
        let rows = [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nGET /".to_vec(),
                ProxyHeader::Header(35, Some(address("192.0.2.7"))),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(),
                ProxyHeader::Header(32, Some(address("2001:db8::7"))),
            ),
            (
                b"PROXY UNKNOWN\r\nx".to_vec(),
                ProxyHeader::Header(15, None),
            ),
            (
                b"PROXY TCP4 x 10.0.0.1 1 2\r\n".to_vec(),
                ProxyHeader::Malformed,
            ),
            (b"PROXY SCTP\r\n".to_vec(), ProxyHeader::Malformed),
            (
                [b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
                ProxyHeader::Malformed,
            ),
            (
                v2(1, 0x11, &inet),
                ProxyHeader::Header(28, Some(address("192.0.2.7"))),
            ),
            (
                v2(1, 0x21, &inet6),
                ProxyHeader::Header(52, Some(address("2001:db8::7"))),
            ),
            (v2(0, 0x00, &[]), ProxyHeader::Header(16, None)),
            (v2(1, 0x11, &inet[..8]), ProxyHeader::Malformed),
            (v2(7, 0x11, &inet), ProxyHeader::Malformed),
            (b"GET / HTTP/1.1\r\n".to_vec(), ProxyHeader::None),
            (b"\x16\x03\x01".to_vec(), ProxyHeader::None),
            (b"\r\n\r\nGET".to_vec(), ProxyHeader::None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(read_proxy_header(&bytes), expected, "{bytes:?}");
            if let ProxyHeader::Header(length, _) = expected {
                for end in 0..length {
                    assert_eq!(
                        read_proxy_header(&bytes[..end]),
                        ProxyHeader::Partial,
                        "{end} of {bytes:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn proxy_header_parser_survives_random_bytes() {
        let mut generator = testkit::Random::new(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| generator.below(below);
        let starts: [&[u8]; 4] = [V2, b"PROXY TCP4 ", b"PROXY TCP6 ", b""];
        for _ in 0..50_000 {
            let mut bytes = starts[random(4) as usize].to_vec();
            for _ in 0..random(60) {
                bytes.push(match random(3) {
                    0 => b" .:0123456789\r\n!"[random(16) as usize],
                    _ => random(256) as u8,
                });
            }
            if let ProxyHeader::Header(length, _) = read_proxy_header(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }

    #[test]
    fn proxy_headers_round_trip() {
        for number in 0..2000u32 {
            let spread = number.wrapping_mul(0x9e37_79b9);
            let v4 = Ipv4Addr::from_bits(spread);
            let v6 = Ipv6Addr::from_bits(u128::from(spread).wrapping_mul(0x1_0000_0001_0000_0001));
            let version_1 = |family: &str, client: &str| {
                let line = format!(
                    "PROXY {family} {client} {client} {} 80\r\n",
                    number % 65_536
                );
                (line.clone().into_bytes(), line.len())
            };
            let version_2 = |family: u8, octets: &[u8], rest: usize| {
                let more = [octets, octets, &[0, 1, 0, 2]].concat();
                let length = ((more.len() + rest) as u16).to_be_bytes();
                let header = [V2, &[0x21, family], &length, &more, &vec![7; rest]].concat();
                let length = header.len();
                (header, length)
            };
            let rest = number as usize % 300;
            for ((header, length), client) in [
                (version_1("TCP4", &v4.to_string()), IpAddr::V4(v4)),
                (version_1("TCP6", &v6.to_string()), IpAddr::V6(v6)),
                (version_2(0x11, &v4.octets(), rest), IpAddr::V4(v4)),
                (version_2(0x21, &v6.octets(), rest), IpAddr::V6(v6)),
            ] {
                let whole = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
                assert_eq!(
                    read_proxy_header(&whole),
                    ProxyHeader::Header(length, Some(client)),
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn forwarded_client_is_always_a_hop_or_the_peer() {
        let proxies: Vec<TrustedProxy> = ["10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect();
        let peer = address("10.0.0.1");
        let mut generator = testkit::Random::new(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: usize| generator.below(below as u64) as usize;
        let hops = [
            "10.1.1.1",
            "203.0.113.9",
            "203.0.113.9:80",
            "[2001:db8::1]:443",
            "2001:db9::2",
            "unknown",
            "",
            "\"x\"",
            "::ffff:10.0.0.9",
        ];
        for _ in 0..20_000 {
            let mut headers = HeaderMap::new();
            let mut named = vec![peer];
            for _ in 0..random(3) {
                let line: Vec<&str> = (0..random(5)).map(|_| hops[random(hops.len())]).collect();
                named.extend(line.iter().filter_map(|hop| hop_address(hop)));
                let mut bytes = line.join(",").into_bytes();
                if random(4) == 0 {
                    bytes.insert(random(bytes.len() + 1), b" ,;\xff"[random(4)]);
                    named.extend(
                        String::from_utf8_lossy(&bytes)
                            .split(',')
                            .filter_map(hop_address),
                    );
                }
                if let Ok(value) = axum::http::HeaderValue::from_bytes(&bytes) {
                    headers.append(FORWARDED, value);
                }
            }
            let client = client(&proxies, peer, &headers);
            assert!(named.contains(&client), "{client} {headers:?}");
            let said = forwarded(false, peer, &headers);
            assert_eq!(said, "10.0.0.1", "other peers are not trusted");
            assert!(forwarded(true, peer, &headers).ends_with("10.0.0.1"));
        }
    }

    #[test]
    fn only_trusted_proxy_hops_are_skipped() {
        let proxies: Vec<TrustedProxy> = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect();
        let named = |hops: &[&str]| {
            let mut headers = HeaderMap::new();
            for hop in hops {
                headers.append(FORWARDED, hop.parse().expect("a value"));
            }
            client(&proxies, address("10.0.0.1"), &headers).to_string()
        };
        assert_eq!(named(&[]), "10.0.0.1");
        assert_eq!(named(&["203.0.113.9"]), "203.0.113.9");
        assert_eq!(
            named(&["198.51.100.1, 203.0.113.9"]),
            "203.0.113.9",
            "earlier hops are not trusted"
        );
        assert_eq!(
            named(&["203.0.113.9, 10.1.1.1", "192.0.2.1"]),
            "203.0.113.9"
        );
        assert_eq!(named(&["203.0.113.9:1234"]), "203.0.113.9");
        assert_eq!(named(&["[2001:db9::1]:443"]), "2001:db9::1");
        assert_eq!(named(&["203.0.113.9, unknown, 10.1.1.1"]), "10.1.1.1");
        assert!(is_trusted(&proxies, address("::ffff:10.9.9.9")));
        assert!("10.0.0.0/33".parse::<TrustedProxy>().is_err());
    }
}
