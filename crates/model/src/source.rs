//! The source of connections and requests, for accounting.

use std::net::IpAddr;

/// An IPv4 address, or the /64 network of an IPv6 address, all of which one host can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// An IPv4 address.
    V4(u32),
    /// The /64 network of an IPv6 address.
    V6(u64),
}

impl Source {
    /// Returns the source of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }

    /// Returns the /48 network of an IPv6 source, the usual allocation to one customer.
    pub fn prefix48(self) -> Option<Self> {
        match self {
            Self::V4(_) => None,
            Self::V6(network) => Some(Self::V6(network & !0xffff)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_64_prefix_are_one_source() {
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(
            of("2001:db8:1:2::1").prefix48(),
            of("2001:db8:1:3::1").prefix48()
        );
        assert_ne!(
            of("2001:db8:1::1").prefix48(),
            of("2001:db8:2::1").prefix48()
        );
        assert_eq!(of("192.0.2.1").prefix48(), None);
    }
}
