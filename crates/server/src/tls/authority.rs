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

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::TlsError;

/// The authority's directory in the data directory.
pub(crate) const DIRECTORY: &str = "tls";
/// The authority's certificate, for clients to trust.
pub(crate) const CA: &str = "ca.pem";
const KEY: &str = "ca.key";

/// The domain of the cloud's APIs.
const API_DOMAIN: &str = "tencentcloudapi.com";
/// The domain of the cloud's object storage.
const COS_DOMAIN: &str = "myqcloud.com";
/// The domains that the authority may issue certificates for.
const DOMAINS: &[&str] = &[API_DOMAIN, COS_DOMAIN, "virga.internal", "localhost"];
/// The names in the server's certificate.
const NAMES: [&str; 5] = [
    "scf.tencentcloudapi.com",
    "*.tencentcloudapi.com",
    "*.internal.tencentcloudapi.com",
    "virga.internal",
    "localhost",
];
/// The subject hash of the authority, by which OpenSSL finds it in a directory: `openssl x509 -subject_hash`.
pub(crate) const SUBJECT_HASH: &str = "fd19983c";
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
pub(crate) fn api_names(region: &str) -> Vec<String> {
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
pub(crate) fn bucket_names(domains: &[String], region: &str) -> Vec<String> {
    let permitted = |domain: &str| {
        let within = |one: &&str| domain == *one || domain.ends_with(&format!(".{one}"));
        DOMAINS.iter().any(within) && domain != COS_DOMAIN
    };
    let own = domains.iter().filter(|domain| permitted(domain));
    let mut names = vec![format!("service.cos.{COS_DOMAIN}")];
    // `accelerate` is the global acceleration endpoint.
    for region in regions(region).chain(["accelerate"]) {
        for service in ["cos", "cos-internal"] {
            names.push(format!("{service}.{region}.{COS_DOMAIN}"));
            names.push(format!("*.{service}.{region}.{COS_DOMAIN}"));
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

/// Issues a certificate for the usual names and `extra_names`. Creates the authority if there is none.
pub(super) fn certificate(
    directory: &Path,
    listen: IpAddr,
    region: &str,
    extra_names: &[String],
) -> Result<CertifiedKey, TlsError> {
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
) -> Result<CertifiedKey, Failure> {
    let (cert, key) = (directory.join(CA), directory.join(KEY));
    if !cert.exists() || !key.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let made = KeyPair::generate()?;
        let own = params()?.self_signed(&made)?;
        write(&key, 0o600, &made.serialize_pem())?;
        write(&cert, 0o644, &own.pem())?;
    }
    let issuer = Issuer::new(params()?, KeyPair::from_pem(&fs::read_to_string(key)?)?);
    let own = KeyPair::generate()?;
    let regional = regions(region).map(|region| format!("*.{region}.{API_DOMAIN}"));
    let names: BTreeSet<_> = NAMES
        .map(str::to_owned)
        .into_iter()
        .chain(regional)
        .chain(extra_names.iter().cloned())
        .collect();
    let names: Vec<_> = names.into_iter().collect();
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name = name("virga");
    let addresses = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
        listen,
    ];
    for address in addresses.into_iter().filter(IpAddr::is_loopback) {
        leaf.subject_alt_names.push(SanType::IpAddress(address));
    }
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    set_validity(&mut leaf, SERVER_DAYS)?;
    let leaf = leaf.signed_by(&own, &issuer)?;
    let secret = PrivateKeyDer::try_from(own.serialize_der())?;
    Ok(CertifiedKey::from_der(
        vec![leaf.der().clone()],
        secret,
        &ring::default_provider(),
    )?)
}

/// Returns the authority's parameters. They never change, so its key is all that must be stored.
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
}
