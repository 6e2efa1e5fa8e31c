//! Network interfaces, addresses and routes, by netlink messages.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use crate::{Result, Step};

/// Interface index of the loopback in every namespace.
pub(super) const LOOPBACK: u32 = 1;
/// First interface index of the router's ends of instance links.
pub(super) const FIRST: u32 = 1024;
/// Interface index of an instance's link.
pub(super) const GUEST: u32 = 2;
/// Interface name of an instance's link.
pub(crate) const GUEST_NAME: &str = "eth0";

/// A route netlink socket of the namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            Ok(socket)
        };
        let socket = open().step("open the network's configuration")?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Makes a veth pair: one end with this index here, the other in the instance's namespace. The peer stays down,
    /// since the kernel brings up neither end before both exist.
    pub(super) fn make_pair(&mut self, index: u32, instance: BorrowedFd<'_>) -> Result<()> {
        let mut here = named(&format!("i{index}"));
        here.header.index = index;
        let mut peer = named(GUEST_NAME);
        peer.header.index = GUEST;
        self.make_veth(here, peer, instance)
    }

    /// Makes the veth pair between host and router, replacing a leftover. Returns the index of the host's end.
    pub(super) fn make_uplink(
        &mut self,
        here: &str,
        there: &str,
        router: BorrowedFd<'_>,
    ) -> Result<u32> {
        self.remove(here)?;
        self.make_veth(named(here), named(there), router)?;
        self.index_of(here)
    }

    /// Removes an interface and its peer, if it exists. The kernel looks the name up itself, because it may be removing
    /// the interface at the same time, with the namespace of the peer.
    pub(super) fn remove(&mut self, name: &str) -> Result<()> {
        match self.ask(RouteNetlinkMessage::DelLink(named(name)), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            removed => removed
                .step(format!("remove the interface {name}"))
                .map(drop),
        }
    }

    fn make_veth(
        &mut self,
        mut here: LinkMessage,
        mut peer: LinkMessage,
        there: BorrowedFd<'_>,
    ) -> Result<()> {
        here.header.flags = LinkFlags::Up;
        here.header.change_mask = LinkFlags::Up;
        peer.attributes
            .push(LinkAttribute::NetNsFd(there.as_raw_fd()));
        here.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.ask(
            RouteNetlinkMessage::NewLink(here),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .step("make a veth pair")
        .map(drop)
    }

    /// Returns the index of an interface.
    pub(super) fn index_of(&mut self, name: &str) -> Result<u32> {
        let mut wanted = LinkMessage::default();
        wanted
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let answer = self
            .ask(RouteNetlinkMessage::GetLink(wanted), 0)
            .step(format!("look for {name}"))?;
        match answer {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link.header.index),
            _ => Err(io::Error::other("unexpected reply of the kernel"))
                .step(format!("look for {name}")),
        }
    }

    pub(super) fn up(&mut self, index: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
            .step("bring an interface up")
            .map(drop)
    }

    /// Disables IPv6 on an interface that is still down, so that it gets no address and sends nothing.
    pub(super) fn without_ipv6(&mut self, index: u32) -> Result<()> {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes
            .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![none],
            )]));
        match self.ask(RouteNetlinkMessage::SetLink(link), 0) {
            // The kernel has no IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            set => set.step("disable IPv6 on an interface").map(drop),
        }
    }

    /// Adds an address without a subnet.
    pub(super) fn add_address(&mut self, index: u32, address: Ipv4Addr) -> Result<()> {
        self.add_address_in(index, address, 32)
    }

    /// Adds an address with its subnet.
    pub(super) fn add_address_in(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(address)),
            AddressAttribute::Address(IpAddr::V4(address)),
        ];
        self.ask(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .step(format!("add the address {address}"))
        .map(drop)
    }

    /// Adds a default route to `gateway`, which is reached by this interface whatever its address.
    pub(super) fn add_default(&mut self, gateway: Ipv4Addr, index: u32) -> Result<()> {
        self.add_route(gateway, index)?;
        self.add_route_by(Ipv4Addr::UNSPECIFIED, 0, gateway, index)
    }

    /// Adds a route to a block by a gateway.
    pub(super) fn add_route_by(
        &mut self,
        to: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
        index: u32,
    ) -> Result<()> {
        let mut message = route(to, prefix, RouteScope::Universe);
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        self.put_route(message, index)
            .step(format!("add the route to {to}/{prefix}"))
    }

    /// Sets the route to one address, replacing that of an ended instance.
    pub(super) fn add_route(&mut self, to: Ipv4Addr, index: u32) -> Result<()> {
        self.put_route(route(to, 32, RouteScope::Link), index)
            .step(format!("add the route to {to}"))
    }

    /// Removes the default route, if there is one.
    pub(super) fn remove_default(&mut self) -> Result<()> {
        let message = route(Ipv4Addr::UNSPECIFIED, 0, RouteScope::NoWhere);
        match self.ask(RouteNetlinkMessage::DelRoute(message), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            removed => removed.step("remove the default route").map(drop),
        }
    }

    /// Moves an interface into a group, by which rules recognize it.
    pub(super) fn set_group(&mut self, index: u32, group: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::Group(group));
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
            .step("set the group of an interface")
            .map(drop)
    }

    fn put_route(&mut self, mut message: RouteMessage, index: u32) -> io::Result<()> {
        message.attributes.push(RouteAttribute::Oif(index));
        self.ask(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Sends one request and waits for the reply or acknowledgement.
    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut told = None;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let length = (answer.header.length as usize)
                    .next_multiple_of(4)
                    .min(rest.len());
                if length == 0 {
                    return Err(io::Error::other("the kernel sent an empty message"));
                }
                rest = &rest[length..];
                if answer.header.sequence_number != self.sequence {
                    continue; // The reply to an earlier request that failed.
                }
                match answer.payload {
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                            None => Ok(told),
                        };
                    }
                    NetlinkPayload::InnerMessage(message) => told = Some(message),
                    _ => {}
                }
            }
        }
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn route(to: Ipv4Addr, prefix: u8, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = scope;
    message.header.kind = RouteType::Unicast;
    if prefix > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(to)));
    }
    message
}
