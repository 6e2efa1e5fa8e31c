//! The cloud's host names that lead to virga inside functions, and the service of each.

use std::collections::HashMap;

use sandbox::network::API_NAME;

/// The service that a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// SCF's API.
    Api,
    /// Buckets.
    Buckets,
}

/// The names. The local authority's certificate covers each.
#[derive(Debug)]
pub(crate) struct CloudNames {
    exact: HashMap<String, Service>,
    /// Zones with all names below them.
    below: HashMap<String, Service>,
}

impl CloudNames {
    /// Collects the names of the cloud's regions and of this installation. Without buckets, COS' names are left to the
    /// cloud.
    pub(crate) fn new(region: &str, buckets: bool) -> Self {
        let api = tls::api_names(region).into_iter();
        let buckets = buckets.then(|| tls::bucket_names(&[], region));
        let buckets = buckets.into_iter().flatten();
        let own = [API_NAME.to_owned(), format!("*.{API_NAME}")];
        let all = api
            .chain(own)
            .map(|name| (name, Service::Api))
            .chain(buckets.map(|name| (name, Service::Buckets)));
        let (mut exact, mut below) = (HashMap::new(), HashMap::new());
        for (name, service) in all {
            match name.strip_prefix("*.") {
                Some(zone) => below.insert(zone.to_owned(), service),
                None => exact.insert(name, service),
            };
        }
        Self { exact, below }
    }

    /// Returns the service of a name, which is in lower case and without a final dot. `None` for a name that is not
    /// virga's.
    pub(crate) fn find(&self, name: &str) -> Option<Service> {
        if let Some(service) = self.exact.get(name) {
            return Some(*service);
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(service) = self.below.get(parent) {
                return Some(*service);
            }
            rest = parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scf_and_cos_hosts_resolve_to_virga() {
        let names = CloudNames::new("home-1", true);
        for (name, service) in [
            ("scf.tencentcloudapi.com", Some(Service::Api)),
            ("scf.internal.tencentcloudapi.com", Some(Service::Api)),
            ("scf.ap-guangzhou.tencentcloudapi.com", Some(Service::Api)),
            ("scf.home-1.tencentcloudapi.com", Some(Service::Api)),
            ("tag.tencentcloudapi.com", Some(Service::Api)),
            ("tag.ap-guangzhou.tencentcloudapi.com", Some(Service::Api)),
            ("virga.internal", Some(Service::Api)),
            ("photos.virga.internal", Some(Service::Api)),
            ("cos.ap-guangzhou.myqcloud.com", Some(Service::Buckets)),
            ("p-1.cos.ap-guangzhou.myqcloud.com", Some(Service::Buckets)),
            ("a.b.cos.ap-guangzhou.myqcloud.com", Some(Service::Buckets)),
            (
                "p-1.cos-internal.ap-beijing.myqcloud.com",
                Some(Service::Buckets),
            ),
            ("p-1.cos.accelerate.myqcloud.com", Some(Service::Buckets)),
            ("p-1.cos.home-1.myqcloud.com", Some(Service::Buckets)),
            ("service.cos.myqcloud.com", Some(Service::Buckets)),
            ("service.cos.tencentcos.cn", Some(Service::Buckets)),
            ("p-1.cos.ap-guangzhou.tencentcos.cn", Some(Service::Buckets)),
            (
                "p-1.cos-internal.home-1.tencentcos.cn",
                Some(Service::Buckets),
            ),
            ("p-1.tencentcos.cn", None),
            ("cvm.tencentcloudapi.com", None),
            ("tencentcloudapi.com", None),
            ("x.scf.tencentcloudapi.com", None),
            ("scf.tencentcloudapi.com.example", None),
            ("p-1.file.myqcloud.com", None),
            ("myqcloud.com", None),
            ("notvirga.internal", None),
            ("", None),
        ] {
            assert_eq!(names.find(name), service, "{name}");
        }
    }

    #[test]
    fn without_buckets_cos_hosts_are_left_to_the_cloud() {
        let names = CloudNames::new("ap-guangzhou", false);
        assert_eq!(names.find("p-1.cos.ap-guangzhou.myqcloud.com"), None);
        assert_eq!(names.find("scf.tencentcloudapi.com"), Some(Service::Api));
    }
}
