//! Address plan of the instances' network.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Result, Step};

/// Number of resolvers that instances are configured with; C libraries use at most three.
pub(super) const RESOLVERS: usize = 3;
/// Offset of the object storage address, behind those of the gateway and the resolvers.
const STORAGE: u32 = 2 + RESOLVERS as u32;
/// Addresses at the start of the range that virga uses itself.
const RESERVED: u32 = 256;
/// Prefix length of the block of these addresses.
const SERVICES_PREFIX: u8 = 24;
/// Prefix length of the link between router and host: the last four addresses of the range.
pub(super) const UPLINK_PREFIX: u8 = 30;

/// An IPv4 block, `a.b.c.d/n`; a single address is `/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressBlock {
    base: Ipv4Addr,
    prefix: u8,
}

impl AddressBlock {
    fn size(self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(u32::MAX)
    }

    /// Returns whether two blocks overlap.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        let mask = u32::MAX
            .checked_shl(32 - u32::from(shorter))
            .unwrap_or_default();
        (self.base.to_bits() ^ other.base.to_bits()) & mask == 0
    }
}

impl TryFrom<String> for AddressBlock {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<AddressBlock> for String {
    fn from(block: AddressBlock) -> Self {
        block.to_string()
    }
}

impl FromStr for AddressBlock {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("{text:?} is not a block of IPv4 addresses such as 10.1.0.0/16");
        let (base, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let base: Ipv4Addr = base.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().ok().filter(|n| *n <= 32).ok_or_else(wrong)?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        if base.to_bits() & !mask != 0 {
            return Err(format!(
                "{text}: bits beyond the prefix are set; write {}/{prefix}",
                Ipv4Addr::from_bits(base.to_bits() & mask)
            ));
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// The range for instances, virga and the link to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPlan(AddressBlock);

impl Default for AddressPlan {
    /// Returns the range 198.18.0.0/15, which is reserved for benchmarks and never public.
    fn default() -> Self {
        Self(AddressBlock {
            base: Ipv4Addr::new(198, 18, 0, 0),
            prefix: 15,
        })
    }
}

impl AddressPlan {
    /// Divides a range.
    ///
    /// # Errors
    /// The range is too small for this many instances.
    pub fn new(range: AddressBlock, instances: u32) -> std::result::Result<Self, String> {
        let capacity = range.size().saturating_sub(RESERVED + 4);
        if capacity < instances {
            return Err(format!(
                "{range} has addresses for {capacity} instances, but {instances} are needed; use a larger range"
            ));
        }
        Ok(Self(range))
    }

    /// Returns the whole range.
    pub fn range(&self) -> AddressBlock {
        self.0
    }

    fn at(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.base.to_bits() + offset)
    }

    /// Returns the address of virga's API, which is also the instances' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        self.at(1)
    }

    /// Returns the addresses of the resolvers, in order.
    pub(super) fn resolvers(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let plan = *self;
        (2..).take(RESOLVERS).map(move |offset| plan.at(offset))
    }

    /// Returns the address at which instances find buckets under the cloud's names, on the HTTP and HTTPS ports. The
    /// gateway's address has the API there.
    pub fn storage(&self) -> Ipv4Addr {
        self.at(STORAGE)
    }

    /// Returns the block of the router's own addresses, for routes: base and prefix length.
    pub(super) fn services(&self) -> (Ipv4Addr, u8) {
        (self.at(0), SERVICES_PREFIX)
    }

    /// Returns the router's own addresses.
    pub(super) fn own(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        std::iter::once(self.gateway())
            .chain(self.resolvers())
            .chain([self.storage()])
    }

    /// Returns the address of an instance.
    pub(super) fn instance(&self, number: u32) -> Result<Ipv4Addr> {
        let offset = number
            .checked_add(RESERVED)
            .filter(|offset| *offset < self.0.size() - 4);
        let offset =
            offset.ok_or_else(|| std::io::Error::other(format!("{} is too small", self.0)));
        offset
            .step("an instance's address")
            .map(|offset| self.at(offset))
    }

    /// Returns both ends of the link: (host, router).
    pub(super) fn uplink(&self) -> (Ipv4Addr, Ipv4Addr) {
        let last = self.0.size();
        (self.at(last - 3), self.at(last - 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> AddressBlock {
        text.parse().expect("well-formed")
    }

    #[test]
    fn blocks_round_trip_and_invalid_ones_are_rejected() {
        for text in ["10.0.0.0/8", "1.2.3.4/32", "0.0.0.0/0"] {
            assert_eq!(block(text).to_string(), text);
        }
        assert_eq!(block("1.2.3.4").to_string(), "1.2.3.4/32");
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0/8",
            "::/0",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
    }

    #[test]
    fn nested_blocks_overlap() {
        let overlap = |a, b| {
            assert_eq!(block(a).overlaps(block(b)), block(b).overlaps(block(a)));
            block(a).overlaps(block(b))
        };
        assert!(overlap("198.18.0.0/15", "198.19.0.0/16"));
        assert!(overlap("0.0.0.0/0", "198.19.0.0/16"));
        assert!(overlap("10.0.0.1/32", "10.0.0.1/32"));
        assert!(!overlap("10.0.0.1/32", "10.0.0.2/32"));
        assert!(!overlap("198.18.0.0/16", "198.19.0.0/16"));
    }

    #[test]
    fn address_ranges_are_disjoint() {
        let plan = AddressPlan::new(block("198.18.0.0/22"), 764).expect("enough addresses");
        let mut all: Vec<_> = plan.own().collect();
        all.extend((0..764).map(|n| plan.instance(n).expect("enough addresses")));
        let (host, router) = plan.uplink();
        all.extend([host, router]);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(
            (host.to_string(), router.to_string()),
            ("198.18.3.253".into(), "198.18.3.254".into())
        );
        assert!(plan.instance(764).is_err());
        assert!(AddressPlan::new(block("198.18.0.0/22"), 765).is_err());
    }
}
