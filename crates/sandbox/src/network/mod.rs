//! The network of instances: what functions can reach, and what they cannot.
//!
//! Every instance has a network namespace of its own. A veth pair connects it to one *router* namespace that belongs to
//! virga. Only the router's rules ([`rules`]) separate instances, virga and the outside, so nothing depends on the
//! host's firewall, and the host sees one interface however many instances there are. If functions may go out, a second
//! veth pair connects the router to the host, which translates addresses.
//!
//! ```text
//! instance ── veth ──┐
//! instance ── veth ──┤ router: rules, API, names ── veth ── host: translation ── the world
//! instance ── veth ──┘
//! ```
//!
//! A namespace is made ahead of need for one instance and never reused: what the kernel remembers of earlier
//! connections must not reach the next tenant.

mod address;
mod link;
mod links;
mod namespace;
mod reach;
mod rules;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

pub use address::{AddressBlock, AddressPlan};
pub use links::InstanceLinks;
pub use reach::{
    API_NAME, API_PORT, BUCKET_PORT, CLOUD_PORTS, INDEX_PORT, NAMES_PORT, Outbound, Reach,
    Resolving,
};

use self::link::Netlink;
use crate::{Pidfd, Result, Step, sys};

/// The router and its link to the host. Dropping it removes both.
#[derive(Debug)]
pub struct Network {
    plan: AddressPlan,
    router: OwnedFd,
    control: Mutex<Netlink>,
    links: InstanceLinks,
    /// Name of the host's end of the uplink and of its rules.
    uplink: Mutex<Option<String>>,
    /// Number of DNS servers that instances are configured with.
    name_servers: usize,
    next: AtomicU32,
}

impl Network {
    /// Makes the router. `name` is unique to this virga on the host; leftovers of an earlier process of that name are
    /// replaced.
    ///
    /// # Errors
    /// The step that failed, for example because the kernel or `nft` lacks a feature.
    pub fn open(
        name: &str,
        plan: AddressPlan,
        reach: &Reach,
        resolving: Resolving,
    ) -> Result<Self> {
        let (router, mut control) = namespace::make(|| {
            for (key, value) in ROUTER {
                set_system(key, value)?;
            }
            let mut control = Netlink::open()?;
            control.up(link::LOOPBACK)?;
            for address in plan.own() {
                control.add_address(link::LOOPBACK, address)?;
            }
            Ok(control)
        })?;
        let mut uplink = None;
        let mut resolvers: &[Ipv4Addr] = &[];
        if let Reach::Outbound(world) = reach {
            resolvers = &world.resolvers[..world.resolvers.len().min(address::RESOLVERS)];
            uplink = Some(open_uplink(name, &plan, &router, &mut control)?);
        }
        // One server answers even without an upstream.
        let name_servers = match resolving {
            Resolving::Beyond => resolvers.len(),
            Resolving::Router => resolvers.len().max(1),
        };
        let text = rules::router(&plan, reach, resolvers, resolving);
        namespace::inside(router.as_fd(), || rules::apply(&text))?;
        Ok(Self {
            plan,
            router,
            control: Mutex::new(control),
            links: InstanceLinks::default(),
            uplink: Mutex::new(uplink),
            name_servers,
            next: AtomicU32::new(link::FIRST),
        })
    }

    /// Listens on a port of virga's address inside.
    ///
    /// # Errors
    /// The system's error.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        self.listen_at(self.plan.gateway(), port)
    }

    /// Listens on an address of the router.
    ///
    /// # Errors
    /// The system's error.
    pub fn listen_at(&self, address: Ipv4Addr, port: u16) -> Result<TcpListener> {
        let address = SocketAddrV4::new(address, port);
        namespace::inside(self.router.as_fd(), || {
            TcpListener::bind(address).step(format!("listen on {address} for instances"))
        })
    }

    /// Receives datagrams on an address of the router.
    ///
    /// # Errors
    /// The system's error.
    pub fn receive_at(&self, address: Ipv4Addr, port: u16) -> Result<UdpSocket> {
        let address = SocketAddrV4::new(address, port);
        namespace::inside(self.router.as_fd(), || {
            UdpSocket::bind(address).step(format!("receive at {address} from instances"))
        })
    }

    /// Returns the address plan.
    pub fn plan(&self) -> AddressPlan {
        self.plan
    }

    /// Returns the addresses of the DNS servers for instances.
    pub fn name_servers(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        self.plan.resolvers().take(self.name_servers)
    }

    /// Makes the network namespace of an instance. It lasts as long as its processes.
    ///
    /// # Errors
    /// The step that failed.
    pub fn make(&self, instance: u32) -> Result<OwnedFd> {
        let address = self.plan.instance(instance)?;
        let gateway = self.plan.gateway();
        // A fresh index each time, because the kernel takes a while to clear an ended one.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (namespace, ()) = namespace::make(|| {
            let mut inside = Netlink::open()?;
            let own = namespace::current()?;
            {
                let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
                control.make_pair(number, own.as_fd())?;
                control.add_route(address, number)?;
            }
            self.links.add(address, number);
            inside.up(link::LOOPBACK)?;
            // Not by /proc/sys, where the kernel searches the name among those of all namespaces.
            inside.without_ipv6(link::GUEST)?;
            inside.up(link::GUEST)?;
            inside.add_address(link::GUEST, address)?;
            inside.add_default(gateway, link::GUEST)?;
            // What remains when the default route is removed.
            let (services, prefix) = self.plan.services();
            inside.add_route_by(services, prefix, gateway, link::GUEST)
        })?;
        Ok(namespace)
    }

    /// Returns the address of an instance.
    pub fn address(&self, instance: u32) -> Option<Ipv4Addr> {
        self.plan.instance(instance).ok()
    }

    /// Takes the public network from an instance for the rest of its life. The router forwards none of its packets;
    /// virga's own services stay reachable.
    ///
    /// # Errors
    /// The system's error.
    pub fn restrict(&self, instance: u32) -> Result<()> {
        let address = self.plan.instance(instance)?;
        let Some(index) = self.links.restrict(address) else {
            let none = io::Error::other("it has no link");
            return Err(none).step(format!("restrict the instance at {address}"));
        };
        self.control
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set_group(index, rules::INTERNAL_GROUP)
    }

    /// Returns the links of instances.
    pub fn links(&self) -> InstanceLinks {
        self.links.clone()
    }

    /// Closes the uplink and removes its traces from the host.
    pub fn close(&self) {
        let uplink = self
            .uplink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(name) = uplink {
            // Leftovers are replaced at the next start.
            let _ = Netlink::open().and_then(|mut host| host.remove(&name));
            let _ = rules::apply(&rules::gone(&name));
        }
    }

    /// Returns the lines of `/etc/hosts` for instances, without loopback.
    pub fn hosts(&self) -> String {
        format!("{} {API_NAME}\n", self.plan.gateway())
    }

    /// Returns `/etc/resolv.conf` for instances, or `None` if no name can be resolved.
    pub fn resolver(&self) -> Option<String> {
        let lines = self
            .name_servers()
            .map(|address| format!("nameserver {address}\n"));
        (self.name_servers > 0).then(|| lines.collect())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.close();
    }
}

/// Kernel settings of the router. New interfaces inherit the defaults.
const ROUTER: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    // Accept a packet only from the interface that its source is routed to.
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    // Do not rate-limit rejections: each goes only to the instance concerned.
    ("ipv4/icmp_ratemask", "0"),
];

/// Sets a sysctl of this thread's network namespace.
fn set_system(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    match fs::write(&path, value) {
        // The kernel has no IPv6 to disable.
        Err(e) if e.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6") => Ok(()),
        written => written.step(format!("set {path}")),
    }
}

/// Connects the router to the host. Returns the name of the host's end.
fn open_uplink(
    name: &str,
    plan: &AddressPlan,
    router: &OwnedFd,
    control: &mut Netlink,
) -> Result<String> {
    let own = rules::uplink_name(name);
    let mut host = Netlink::open()?;
    let outside = host.make_uplink(&own, rules::UPLINK, router.as_fd())?;
    set_system(&format!("ipv6/conf/{own}/disable_ipv6"), "1")?;
    let (here, there) = plan.uplink();
    host.add_address_in(outside, here, address::UPLINK_PREFIX)?;
    let inside = control.index_of(rules::UPLINK)?;
    control.up(inside)?;
    control.add_address_in(inside, there, address::UPLINK_PREFIX)?;
    control.add_default(here, inside)?;
    set_system("ipv4/ip_forward", "1")?;
    rules::apply(&rules::host(&own, plan))?;
    Ok(own)
}

/// Removes the default route of this thread's network namespace, which is an instance's. Only virga's own services stay
/// reachable. It is no error if there is none.
///
/// # Errors
/// The system's error.
pub(crate) fn remove_default_route() -> Result<()> {
    Netlink::open()?.remove_default()
}

/// Makes a non-blocking TCP socket in the network of an instance, given by its sandbox init.
///
/// # Errors
/// The system's error, for example because the instance has ended.
pub fn socket_inside(init: &Pidfd) -> Result<OwnedFd> {
    namespace::inside(init.as_fd(), || {
        sys::stream_socket().step("make a socket in an instance's network")
    })
}

/// Returns the name of the host's end of the uplink and of its rules, for the name given to [`Network::open`].
pub fn link_name(name: &str) -> String {
    rules::uplink_name(name)
}

/// Returns a number that identifies this process' network namespace on the host.
///
/// # Errors
/// The system's error.
pub fn namespace_number() -> Result<u64> {
    let file = fs::metadata("/proc/self/ns/net").step("stat the network namespace")?;
    Ok(std::os::unix::fs::MetadataExt::ino(&file))
}

/// Checks whether network rules can be made on this host.
///
/// # Errors
/// The missing part and its fix.
pub fn probe() -> std::result::Result<String, String> {
    let version = rules::version()?;
    let made = namespace::make(|| {
        Netlink::open()?;
        rules::apply(
            "table inet probe { chain c { type nat hook postrouting priority srcnat; masquerade; }; }",
        )
    });
    match made {
        Ok(_) => Ok(version),
        Err(e) => Err(format!(
            "{e}; load the kernel's modules nf_tables, nf_nat and nft_masq, or start virga with --network none"
        )),
    }
}
