"""Custom domains through the official Python SDK."""

import json
import urllib.request

import pytest

from api import Api
from package import FIRST, package


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def get(server, host, path):
    request = urllib.request.Request("http://%s%s" % (server.address, path), headers={"Host": host})
    return json.loads(urllib.request.urlopen(request).read())


def test_custom_domain_lifecycle(api, server):
    api("CreateFunction", FunctionName="first", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    api("CreateFunction", FunctionName="second", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    endpoints = [
        {"Namespace": "default", "FunctionName": "first", "Qualifier": "$LATEST", "PathMatch": "/*"},
        {"FunctionName": "second", "PathMatch": "/two/*",
         "PathRewrite": [{"Path": "/two/*", "Type": "WildcardRules", "Rewrite": "/$"}]},
    ]
    api("CreateCustomDomain", Domain="Shop.example.com", Protocol="HTTP", EndpointsConfig=endpoints,
        WafConfig={"WafOpen": "OPEN", "WafInstanceId": "waf-1"}, Tags=[{"Key": "team", "Value": "shop"}])
    shown = api("GetCustomDomain", Domain="shop.example.com")
    assert (shown.Domain, shown.Protocol) == ("shop.example.com", "HTTP")
    assert [(one.FunctionName, one.Qualifier, one.PathMatch) for one in shown.EndpointsConfig] == [
        ("first", "$LATEST", "/*"), ("second", "$DEFAULT", "/two/*")]
    rule = shown.EndpointsConfig[1].PathRewrite[0]
    assert (rule.Path, rule.Type, rule.Rewrite) == ("/two/*", "WildcardRules", "/$")
    assert (shown.WafConfig.WafOpen, shown.WafConfig.WafInstanceId, shown.CertConfig.CertificateId) == ("OPEN", "waf-1", "")
    assert [(tag.Key, tag.Value) for tag in shown.Tags] == [("team", "shop")]
    assert get(server, "shop.example.com", "/a")["name"] == "first"
    answer = get(server, "shop.example.com", "/two/b")
    assert (answer["name"], answer["got"]["path"]) == ("second", "/b")
    api("UpdateCustomDomain", Domain="shop.example.com", Protocol="HTTP&HTTPS", CertConfig={"CertificateId": "cert-1"},
        EndpointsConfig=[{"FunctionName": "second", "PathMatch": "/*"}])
    shown = api("GetCustomDomain", Domain="shop.example.com")
    assert (shown.Protocol, shown.CertConfig.CertificateId, len(shown.EndpointsConfig)) == ("HTTP&HTTPS", "cert-1", 1)
    assert get(server, "shop.example.com", "/a")["name"] == "second"
    api("CreateCustomDomain", Domain="b.example.com", Protocol="HTTP", EndpointsConfig=[{"FunctionName": "first", "PathMatch": "/"}])
    listed = api("ListCustomDomains", OrderBy="AddTime", Order="ASC")
    assert (listed.Total, [one.Domain for one in listed.Domains]) == (2, ["shop.example.com", "b.example.com"])
    listed = api("ListCustomDomains", Filters=[{"Name": "Domain", "Values": ["shop"]}])
    assert [one.Domain for one in listed.Domains] == ["shop.example.com"]
    assert len(api("ListCustomDomains", Offset=1, Limit=5).Domains) == 1
    for name in ("shop.example.com", "b.example.com"):
        api("DeleteCustomDomain", Domain=name)
        assert api.code("GetCustomDomain", Domain=name) == "FailedOperation.Domain.UnExist"


def test_refused_requests(api):
    api("CreateFunction", FunctionName="there", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    one = [{"FunctionName": "there", "PathMatch": "/*"}]
    fine = {"Domain": "c.example.com", "Protocol": "HTTP", "EndpointsConfig": one}
    api("CreateCustomDomain", **fine)

    def but(**fields):
        return dict(fine, Domain="d.example.com", **fields)

    def rewrite(**rule):
        return but(EndpointsConfig=[dict(one[0], PathRewrite=[rule])])

    refusals = [
        ("CreateCustomDomain", fine, "ResourceInUse"),
        ("CreateCustomDomain", dict(fine, Domain="*.example.com"), "InvalidParameterValue.Domain"),
        ("CreateCustomDomain", dict(fine, Domain="10.0.0.1"), "InvalidParameterValue.Domain"),
        ("CreateCustomDomain", but(Protocol="FTP"), "InvalidParameterValue"),
        ("CreateCustomDomain", but(Protocol="HTTPS"), "InvalidParameterValue"),
        ("CreateCustomDomain", but(EndpointsConfig=[]), "InvalidParameterValue"),
        ("CreateCustomDomain", but(EndpointsConfig=one * 2), "InvalidParameterValue"),
        ("CreateCustomDomain", but(EndpointsConfig=[{"FunctionName": "nobody", "PathMatch": "/*"}]), "ResourceNotFound.Function"),
        ("CreateCustomDomain", but(EndpointsConfig=[{"FunctionName": "there", "PathMatch": "*"}]), "InvalidParameterValue"),
        ("CreateCustomDomain", but(WafConfig={"WafOpen": "perhaps"}), "InvalidParameterValue"),
        ("CreateCustomDomain", rewrite(Path="/a", Type="WildcardRules", Rewrite="/b"), "InvalidParameterValue"),
        ("CreateCustomDomain", rewrite(Path="/a", Type="ExactRules", Rewrite="b"), "InvalidParameterValue"),
        ("UpdateCustomDomain", {"Domain": "nobody.example.com"}, "FailedOperation.Domain.UnExist"),
        ("UpdateCustomDomain", {"Domain": "c.example.com", "Protocol": "HTTPS"}, "InvalidParameterValue"),
        ("DeleteCustomDomain", {"Domain": "nobody.example.com"}, "FailedOperation.Domain.UnExist"),
        ("DeleteCustomDomain", {"Domain": "nobody"}, "InvalidParameterValue.Domain"),
        ("GetCustomDomain", {"Domain": "nobody.example.com"}, "FailedOperation.Domain.UnExist"),
        ("GetCustomDomain", {"Domain": ""}, "InvalidParameterValue.Domain"),
        ("ListCustomDomains", {"OrderBy": "Color"}, "InvalidParameterValue.OrderBy"),
        ("ListCustomDomains", {"Limit": -1}, "InvalidParameterValue.Limit"),
        ("ListCustomDomains", {"Filters": [{"Name": "Color", "Values": ["red"]}]}, "InvalidParameterValue.Filters"),
    ]
    for action, fields, code in refusals:
        assert api.code(action, **fields) == code, (action, fields)
    api("DeleteCustomDomain", Domain="c.example.com")
