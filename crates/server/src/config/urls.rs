//! Function URLs and custom domains.

use std::time::Duration;

use hosts::HostPattern;
use ownership::DnsServer;
use urls::UrlErrors;

use super::option::options;
use super::parse::{host_name, list, one_of, seconds, switch};

options! {
    /// Options of function URLs and custom domains.
    UrlOptions {
        /// Domain of function URLs, <app id>-<url id>.<region>.<url_domain>; its wildcard DNS record must point to this host
        url_domain: String = "NAME", "localhost" => host_name("a host's name, such as fn.example.com");

        /// Serve function URLs at /url/<url id>/ of the API's address, too: on, or off; these share one origin, so cookies are
        /// dropped
        url_paths: bool = "WHEN", "on" => switch;

        /// Custom domains that need no proof of ownership, as NAME, *.NAME or *, separated by commas; all others need a DNS TXT
        /// record
        domain_allow: Vec<HostPattern> = "NAMES", "" => list("names such as shop.example.com, *.example.com, or *");

        /// DNS servers for checking domain ownership, as 10.0.0.2 or 10.0.0.2:5353, separated by commas; empty = those in
        /// /etc/resolv.conf
        domain_resolvers: Vec<DnsServer> = "ADDRESSES", "" => list("addresses such as 10.0.0.2 or 10.0.0.2:5353");

        /// Interval between ownership checks of custom domains (s)
        domain_check: Duration = "SECONDS", "3600" => seconds;

        /// Time that a custom domain is still served after its ownership record disappeared (s)
        domain_grace: Duration = "SECONDS", "259200" => seconds;

        /// HTTP status of failed requests to function URLs and custom domains: scf = SCF's own (430 to 450), http = standard 413,
        /// 500, 502, 503 and 504
        url_errors: UrlErrors = "HOW", "scf" => one_of([("scf", UrlErrors::Scf), ("http", UrlErrors::Http)]);
    }
}
