//! The local certificate authority, created at first start, for the names that some clients have built in.
//!
//! Its own certificate restricts it to these names (name constraints), so that its key is of no use against any other
//! site.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::TlsError;

/// The authority's directory in the data directory.
pub const DIRECTORY: &str = "tls";
/// The authority's certificate, for clients to trust.
pub const CA: &str = "ca.pem";
const KEY: &str = "ca.key";

/// The domain of the cloud's APIs.
const API_DOMAIN: &str = "tencentcloudapi.com";
/// The domains of the cloud's object storage. Clients switch to the second one when the first does not answer.
const COS_DOMAINS: [&str; 2] = ["myqcloud.com", LATER_DOMAIN];
/// The domain that the constraints of earlier versions' authorities lack.
const LATER_DOMAIN: &str = "tencentcos.cn";
/// The domains that the authority may issue certificates for. They never become fewer.
const DOMAINS: &[&str] = &[
    API_DOMAIN,
    COS_DOMAINS[0],
    COS_DOMAINS[1],
    "virga.internal",
    "localhost",
];
/// The names in the server's certificate.
const NAMES: [&str; 5] = [
    "scf.tencentcloudapi.com",
    "*.tencentcloudapi.com",
    "*.internal.tencentcloudapi.com",
    "virga.internal",
    "localhost",
];
/// The subject hash of the authority, by which OpenSSL finds it in a directory: `openssl x509 -subject_hash`.
pub const SUBJECT_HASH: &str = "fd19983c";
/// Regions of SCF and COS. Clients put the region into the host, as in `scf.ap-guangzhou.tencentcloudapi.com`, and `*`
/// matches only one label.
const REGIONS: &[&str] = &[
    "ap-bangkok",
    "ap-beijing",
    "ap-beijing-1",
    "ap-beijing-fsi",
    "ap-chengdu",
    "ap-chongqing",
    "ap-guangzhou",
    "ap-hongkong",
    "ap-jakarta",
    "ap-mumbai",
    "ap-nanjing",
    "ap-seoul",
    "ap-shanghai",
    "ap-shanghai-fsi",
    "ap-shenzhen",
    "ap-shenzhen-fsi",
    "ap-singapore",
    "ap-taipei",
    "ap-tokyo",
    "eu-frankfurt",
    "eu-moscow",
    "me-saudi-arabia",
    "na-ashburn",
    "na-siliconvalley",
    "na-toronto",
    "sa-saopaulo",
];
/// Validity of the authority's certificate, in days.
const CA_DAYS: i32 = 3650;
/// Validity of the server's certificate, in days; it is renewed much earlier.
const SERVER_DAYS: i32 = 90;

/// Returns the cloud's regions and the installation's own, if that is valid in a host name.
fn regions(own: &str) -> impl Iterator<Item = &str> {
    let known: &[&str] = REGIONS;
    let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let own = Some(own).filter(|own| !known.contains(own) && own.bytes().all(is_label));
    known.iter().copied().chain(own)
}

/// Returns the hosts of SCF's API, and of the tag service, whose actions for functions are served, too.
pub fn api_names(region: &str) -> Vec<String> {
    let places: Vec<_> = regions(region).chain(["internal"]).collect();
    let of = |service: &str| {
        let regional = places
            .iter()
            .map(|place| format!("{service}.{place}.{API_DOMAIN}"));
        let mut names: Vec<_> = regional.collect();
        names.push(format!("{service}.{API_DOMAIN}"));
        names
    };
    ["scf", "tag"].into_iter().flat_map(of).collect()
}

/// Returns the host names of buckets below `domains` for clients of COS and S3, as far as the name constraints permit.
/// The `*` stands for the bucket and matches one label.
pub fn bucket_names(domains: &[String], region: &str) -> Vec<String> {
    let permitted = |domain: &str| {
        let within = |one: &&str| domain == *one || domain.ends_with(&format!(".{one}"));
        DOMAINS.iter().any(within) && !COS_DOMAINS.contains(&domain)
    };
    let own = domains.iter().filter(|domain| permitted(domain));
    let mut names = Vec::new();
    for domain in COS_DOMAINS {
        names.push(format!("service.cos.{domain}"));
        // `accelerate` is the global acceleration endpoint.
        for region in regions(region).chain(["accelerate"]) {
            for service in ["cos", "cos-internal"] {
                names.push(format!("{service}.{region}.{domain}"));
                names.push(format!("*.{service}.{region}.{domain}"));
            }
        }
    }
    for domain in own {
        names.extend([domain.clone(), format!("*.{domain}")]);
        for service in ["cos", "s3"] {
            names.push(format!("{service}.{domain}"));
            names.push(format!("*.{service}.{domain}"));
            for region in regions(region) {
                names.push(format!("{service}.{region}.{domain}"));
                names.push(format!("*.{service}.{region}.{domain}"));
            }
        }
    }
    names
}

/// Issues certificates for the usual names and `extra_names`. Creates the authority if there is none.
pub(super) fn certificates(
    directory: &Path,
    listen: IpAddr,
    region: &str,
    extra_names: &[String],
) -> Result<Certificates, TlsError> {
    make(directory, listen, region, extra_names).map_err(|why| TlsError::Authority {
        path: directory.display().to_string(),
        why: why.to_string(),
    })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn make(
    directory: &Path,
    listen: IpAddr,
    region: &str,
    extra_names: &[String],
) -> Result<Certificates, Failure> {
    let issuer = Issuer::new(params()?, key_pair(directory)?);
    let regional = regions(region).map(|region| format!("*.{region}.{API_DOMAIN}"));
    let names: BTreeSet<_> = NAMES
        .map(str::to_owned)
        .into_iter()
        .chain(regional)
        .chain(extra_names.iter().cloned())
        .collect();
    // Apart, since a client that trusts an earlier version's authority would refuse a certificate with these names.
    let (later, usual): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_later(name));
    let later = match later.is_empty() {
        true => None,
        false => Some(Arc::new(leaf(later, &[], &issuer)?)),
    };
    let addresses = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
        listen,
    ];
    Ok(Certificates {
        usual: Arc::new(leaf(usual, &addresses, &issuer)?),
        later,
    })
}

/// The served certificates.
pub(super) struct Certificates {
    pub(super) usual: Arc<CertifiedKey>,
    /// The certificate of hosts below [`LATER_DOMAIN`].
    later: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Serves one certificate for all hosts.
    pub(super) fn one(certificate: CertifiedKey) -> Self {
        Self {
            usual: Arc::new(certificate),
            later: None,
        }
    }

    /// Returns the certificate for the host that a client asked for.
    pub(super) fn find(&self, host: Option<&str>) -> Arc<CertifiedKey> {
        let later = self.later.as_ref().filter(|_| host.is_some_and(is_later));
        later.unwrap_or(&self.usual).clone()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &CertifiedKey> {
        [&self.usual]
            .into_iter()
            .chain(&self.later)
            .map(|certificate| &**certificate)
    }
}

fn is_later(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(LATER_DOMAIN)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Reads the authority's key. Creates both if there is none, and issues the authority's certificate again, under the same
/// key, if an earlier version made it for fewer domains.
fn key_pair(directory: &Path) -> Result<KeyPair, Failure> {
    let (cert, key) = (directory.join(CA), directory.join(KEY));
    if !cert.exists() || !key.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let made = KeyPair::generate()?;
        write(&key, 0o600, &made.serialize_pem())?;
        write(&cert, 0o644, &params()?.self_signed(&made)?.pem())?;
        return Ok(made);
    }
    let pair = KeyPair::from_pem(&fs::read_to_string(key)?)?;
    let stored = CertificateDer::from_pem_file(&cert)?;
    // A certificate has names as plain bytes.
    let covers = |domain: &&str| {
        let domain = domain.as_bytes();
        stored.windows(domain.len()).any(|part| part == domain)
    };
    if !DOMAINS.iter().all(covers) {
        write(&cert, 0o644, &params()?.self_signed(&pair)?.pem())?;
    }
    Ok(pair)
}

fn leaf(
    names: Vec<String>,
    addresses: &[IpAddr],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<CertifiedKey, Failure> {
    let own = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name = name("virga");
    for address in addresses.iter().filter(|address| address.is_loopback()) {
        leaf.subject_alt_names.push(SanType::IpAddress(*address));
    }
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    set_validity(&mut leaf, SERVER_DAYS)?;
    let leaf = leaf.signed_by(&own, issuer)?;
    let secret = PrivateKeyDer::try_from(own.serialize_der())?;
    Ok(CertifiedKey::from_der(
        vec![leaf.der().clone()],
        secret,
        &ring::default_provider(),
    )?)
}

/// Returns the authority's parameters. Only domains are added to them, so its key is all that must be stored.
fn params() -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name("virga local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let domains = DOMAINS
        .iter()
        .map(|name| GeneralSubtree::DnsName((*name).to_owned()));
    let v6 = CidrSubnet::V6(Ipv6Addr::LOCALHOST.octets(), [255; 16]);
    let loopback = [CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0]), v6];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: domains
            .chain(loopback.map(GeneralSubtree::IpAddress))
            .collect(),
        excluded_subtrees: Vec::new(),
    });
    set_validity(&mut params, CA_DAYS)?;
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Sets the validity of a certificate. It begins yesterday, since a client's clock may be behind.
fn set_validity(params: &mut CertificateParams, days: i32) -> Result<(), Failure> {
    use jiff::ToSpan;
    let today = jiff::tz::Offset::UTC
        .to_datetime(jiff::Timestamp::now())
        .date();
    let (first, last) = (today.checked_sub(1.day())?, today.checked_add(days.days())?);
    let part = |number: i8| u8::try_from(number);
    params.not_before = date_time_ymd(
        first.year().into(),
        part(first.month())?,
        part(first.day())?,
    );
    params.not_after = date_time_ymd(last.year().into(), part(last.month())?, part(last.day())?);
    Ok(())
}

/// Writes a file atomically.
fn write(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_certificate_covers_client_host_names() {
        let domains = [
            "localhost",
            "objects.virga.internal",
            "objects.example.com",
            "notlocalhost",
        ];
        let names = bucket_names(&domains.map(str::to_owned), "home-1");
        for name in [
            "service.cos.myqcloud.com",
            "cos.ap-guangzhou.myqcloud.com",
            "*.cos.ap-guangzhou.myqcloud.com",
            "*.cos.ap-shenzhen.myqcloud.com",
            "*.cos.accelerate.myqcloud.com",
            "*.cos.home-1.myqcloud.com",
            "service.cos.tencentcos.cn",
            "*.cos.ap-guangzhou.tencentcos.cn",
            "*.cos-internal.home-1.tencentcos.cn",
            "*.localhost",
            "s3.localhost",
            "*.s3.localhost",
            "*.cos.ap-guangzhou.localhost",
            "*.s3.ap-guangzhou.objects.virga.internal",
        ] {
            assert!(names.iter().any(|one| one == name), "{name}");
        }
        // A name outside of the constraints would make clients refuse the whole certificate.
        let permitted = |name: &String| {
            DOMAINS
                .iter()
                .any(|one| name.ends_with(&format!(".{one}")) || name == one)
        };
        assert_eq!(names.iter().find(|name| !permitted(name)), None);
    }
    #[test]
    fn authority_of_an_earlier_version_is_reissued_under_its_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = bucket_names(&["localhost".to_owned()], "home-1");
        let issue = || {
            certificates(
                directory.path(),
                Ipv4Addr::LOCALHOST.into(),
                "home-1",
                &names,
            )
            .expect("certificates")
        };
        issue();
        let ca = directory.path().join(CA);
        let (key, mut earlier) = (
            key_pair(directory.path()).expect("a key"),
            params().expect("parameters"),
        );
        if let Some(constraints) = &mut earlier.name_constraints {
            constraints.permitted_subtrees.retain(
                |one| !matches!(one, GeneralSubtree::DnsName(name) if name == LATER_DOMAIN),
            );
        }
        let earlier = earlier.self_signed(&key).expect("a certificate").pem();
        fs::write(&ca, &earlier).expect("written");
        let served = issue();
        let reissued = fs::read_to_string(&ca).expect("a certificate");
        let permits_later = |pem: &str| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
            der.windows(LATER_DOMAIN.len())
                .any(|part| part == LATER_DOMAIN.as_bytes())
        };
        assert!(!permits_later(&earlier) && permits_later(&reissued));
        let key_of = |certificate: &CertifiedKey| {
            let leaf = certificate.end_entity_cert().expect("a leaf");
            let text = |name: &&str| leaf.windows(name.len()).any(|part| part == name.as_bytes());
            COS_DOMAINS.map(|domain| text(&domain))
        };
        let of = |host| key_of(&served.find(host));
        assert_eq!(of(None), [true, false]);
        assert_eq!(of(Some("a-1.cos.ap-guangzhou.myqcloud.com")), [true, false]);
        assert_eq!(
            of(Some("A-1.cos.ap-guangzhou.TencentCOS.cn")),
            [false, true]
        );
    }
}
