//! The network of instances: what a function reaches, and what it never does.
//!
//! Every instance has a network namespace of its own, joined by a veth pair to one *router* namespace that is
//! virga's alone. The router's rules ([`rules`]) are all that stands between instances, virga and the world, so
//! nothing of the host's own firewall is relied upon, and the host sees one interface however many instances there
//! are. Where functions may go out, a second veth pair joins the router to the host, which translates addresses.
//!
//! ```text
//! instance ── veth ──┐
//! instance ── veth ──┤ router: rules, API, names ── veth ── host: translation ── the world
//! instance ── veth ──┘
//! ```
//!
//! A namespace is made ahead of need, for one instance, and never given to another: what a kernel remembers of
//! earlier connections is not for the next tenant.

mod address;
mod link;
mod namespace;
mod rules;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

pub use address::{AddressBlock, AddressPlan};
pub(crate) use link::GUEST_NAME;

use self::link::Netlink;
use crate::{Pidfd, Result, Step, sys};

/// The port of virga's API inside.
pub const API_PORT: u16 = 9400;
/// Where instances find virga's buckets.
pub const BUCKET_PORT: u16 = 9401;
/// Where builds find the package index, where virga adds its credentials.
pub const INDEX_PORT: u16 = 9402;
/// The name under which instances find it.
pub const API_NAME: &str = "virga.internal";
/// Ports at which clients of the cloud expect its APIs and its object storage.
pub const CLOUD_PORTS: [u16; 2] = [80, 443];
/// The port of name servers.
pub const NAMES_PORT: u16 = 53;

/// How far an instance reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Virga's API and nothing else.
    Api,
    /// The world beyond the host, too.
    Outbound(Outbound),
}

/// The world, and what of it is not for functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Resolvers of names, on the host's side; the first three are used.
    pub resolvers: Vec<Ipv4Addr>,
    /// Private destinations that functions may reach all the same.
    pub allowed: Vec<AddressBlock>,
    /// Public destinations that they may not.
    pub refused: Vec<AddressBlock>,
}

/// Who answers instances' questions for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolving {
    /// The resolvers of [`Outbound`]: packets are translated to them. Without any no name is resolved.
    Beyond,
    /// A name server in the router, which listens at the first of [`Network::name_servers`] and the next ones.
    Router,
}

/// The router, and the way to it. Dropping it takes everything down.
#[derive(Debug)]
pub struct Network {
    plan: AddressPlan,
    router: OwnedFd,
    control: Mutex<Netlink>,
    /// The host's end of the way out, and the name of the rules there.
    uplink: Mutex<Option<String>>,
    /// Number of name servers that instances know.
    name_servers: usize,
    next: AtomicU32,
}

impl Network {
    /// Makes the router. `name` is this virga's alone on the host; what an earlier process of that name left is
    /// replaced.
    ///
    /// # Errors
    /// The step that failed, as when the kernel or the `nft` command lacks something.
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
        // One answers also where there is nobody to ask.
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
            uplink: Mutex::new(uplink),
            name_servers,
            next: AtomicU32::new(link::FIRST),
        })
    }

    /// Listens where instances find virga's API, or its buckets.
    ///
    /// # Errors
    /// The system's error.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        self.listen_at(self.plan.gateway(), port)
    }

    /// Listens at one of the router's own addresses.
    ///
    /// # Errors
    /// The system's error.
    pub fn listen_at(&self, address: Ipv4Addr, port: u16) -> Result<TcpListener> {
        let address = SocketAddrV4::new(address, port);
        namespace::inside(self.router.as_fd(), || {
            TcpListener::bind(address).step(format!("listen on {address} for instances"))
        })
    }

    /// Receives datagrams at one of the router's own addresses.
    ///
    /// # Errors
    /// The system's error.
    pub fn receive_at(&self, address: Ipv4Addr, port: u16) -> Result<UdpSocket> {
        let address = SocketAddrV4::new(address, port);
        namespace::inside(self.router.as_fd(), || {
            UdpSocket::bind(address).step(format!("receive at {address} from instances"))
        })
    }

    /// The addresses of everything in the router.
    pub fn plan(&self) -> AddressPlan {
        self.plan
    }

    /// The addresses that instances send their questions for names to.
    pub fn name_servers(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        self.plan.resolvers().take(self.name_servers)
    }

    /// A network namespace for the instance with this number. It is gone when its last process is.
    ///
    /// # Errors
    /// The step that failed.
    pub fn make(&self, instance: u32) -> Result<OwnedFd> {
        let address = self.plan.instance(instance)?;
        let gateway = self.plan.gateway();
        // A number of its own for each, since the kernel takes its time to clear an ended one away.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (namespace, ()) = namespace::make(|| {
            let mut inside = Netlink::open()?;
            let own = namespace::current()?;
            {
                let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
                control.make_pair(number, own.as_fd())?;
                control.add_route(address, number)?;
            }
            inside.up(link::LOOPBACK)?;
            // Not by /proc/sys: the kernel looks for a name there among those of all namespaces, one after the other.
            inside.without_ipv6(link::GUEST)?;
            inside.up(link::GUEST)?;
            inside.add_address(link::GUEST, address)?;
            inside.add_default(gateway, link::GUEST)
        })?;
        Ok(namespace)
    }

    /// The address of the instance with this number.
    pub fn address(&self, instance: u32) -> Option<Ipv4Addr> {
        self.plan.instance(instance).ok()
    }

    /// Cuts an instance off: nothing finds the way back to it, and so nothing of it is let through.
    ///
    /// # Errors
    /// The system's error.
    pub fn disconnect(&self, instance: u32) -> Result<()> {
        let address = self.plan.instance(instance)?;
        self.control
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove_route(address)
    }

    /// Closes the way out, and takes away what the host knows of it.
    pub fn close(&self) {
        let uplink = self
            .uplink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(name) = uplink {
            // What is left is replaced at the next start.
            let _ = Netlink::open().and_then(|mut host| host.remove(&name));
            let _ = rules::apply(&rules::gone(&name));
        }
    }

    /// What `/etc/hosts` says inside, beside the loopback.
    pub fn hosts(&self) -> String {
        format!("{} {API_NAME}\n", self.plan.gateway())
    }

    /// What `/etc/resolv.conf` says inside; none where no name can be resolved.
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

/// How the router's kernel behaves. New interfaces take on the defaults.
const ROUTER: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    // A packet is believed only when the way back to its source is the way it came.
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    // Every refusal is told: only who was refused hears of it.
    ("ipv4/icmp_ratemask", "0"),
];

/// Sets a value of this thread's network namespace.
fn set_system(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    match fs::write(&path, value) {
        // A kernel without IPv6 has nothing to switch off.
        Err(e) if e.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6") => Ok(()),
        written => written.step(format!("set {path}")),
    }
}

/// Joins the router to the host. Gives the name of the host's end.
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

/// A socket inside an instance's network, whose first process this is, to connect with. It does not block.
///
/// # Errors
/// The system's error, as when the instance has ended.
pub fn socket_inside(init: &Pidfd) -> Result<OwnedFd> {
    namespace::inside(init.as_fd(), || {
        sys::stream_socket().step("make a socket in an instance's network")
    })
}

/// What the host's end of the way out, and the host's rules for it, are called where [`Network::open`] gets this name.
pub fn link_name(name: &str) -> String {
    rules::uplink_name(name)
}

/// Tells this process' network from others of the host.
///
/// # Errors
/// The system's error.
pub fn namespace_number() -> Result<u64> {
    let file = fs::metadata("/proc/self/ns/net").step("look at the network namespace")?;
    Ok(std::os::unix::fs::MetadataExt::ino(&file))
}

/// Whether network rules can be made on this host.
///
/// # Errors
/// What is missing, and how to mend it.
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
