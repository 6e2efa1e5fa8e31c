"""The tag service, by the official SDK's client for it: tags of functions."""

import json

import pytest
from tencentcloud.common import credential
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from api import Api, Tags
from package import FIRST, package
from test_access import make_key

SCF = {"ServiceType": "scf", "ResourcePrefix": "namespace", "ResourceRegion": "ap-guangzhou"}


def resource(name, space="default", owner="uin/100000000001"):
    return "qcs::scf:ap-guangzhou:%s:namespace/%s/function/%s" % (owner, space, name)


@pytest.fixture(scope="module")
def api(server):
    api = Api(server)
    api("CreateNamespace", Namespace="other")
    for name, space in (("one", "default"), ("two", "default"), ("one", "other"), ("untagged", "default")):
        api("CreateFunction", FunctionName=name, Namespace=space, Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    return api


@pytest.fixture(scope="module")
def tags(server, api):
    return Tags(server)


def of(api, name, space="default"):
    """A function's tags, as SCF shows them."""
    shown = api("GetFunction", FunctionName=name, Namespace=space)
    return {tag.Key: tag.Value for tag in shown.Tags}


def test_tags_are_added_changed_and_removed(api, tags):
    tags("AddResourceTag", Resource=resource("one"), TagKey="colour", TagValue="grey")
    assert of(api, "one") == {"colour": "grey"} and of(api, "one", "other") == {}
    tags("AddResourceTag", Resource=resource("one"), TagKey="colour", TagValue="grey")
    assert tags.code("AddResourceTag", Resource=resource("one"), TagKey="colour", TagValue="blue") == "ResourceInUse.TagKeyAttached"
    replace = [{"TagKey": "colour", "TagValue": "blue"}, {"TagKey": "size", "TagValue": "\u5927"}]
    tags("ModifyResourceTags", Resource=resource("one", owner=""), ReplaceTags=replace)
    assert of(api, "one") == {"colour": "blue", "size": "\u5927"}
    tags("ModifyResourceTags", Resource=resource("one", owner="uid/1250000000"), ReplaceTags=[{"TagKey": "age", "TagValue": "1"}],
         DeleteTags=[{"TagKey": "size"}, {"TagKey": "none"}])
    assert of(api, "one") == {"colour": "blue", "age": "1"}
    tags("DeleteResourceTag", Resource=resource("one"), TagKey="age")
    assert of(api, "one") == {"colour": "blue"}
    assert tags.code("DeleteResourceTag", Resource=resource("one"), TagKey="age") == "ResourceNotFound.AttachedTagKeyNotFound"
    # SCF's own list finds functions by them.
    found = api("ListFunctions", Filters=[{"Name": "tag-colour", "Values": ["blue"]}])
    assert [function.FunctionName for function in found.Functions] == ["one"]
    tags("DeleteResourceTag", Resource=resource("one"), TagKey="colour")


def test_several_functions_are_tagged_at_once(api, tags):
    both = ["default/function/one", "other/function/one"]
    tags("AttachResourcesTag", ResourceIds=both, TagKey="team", TagValue="rain", **SCF)
    assert of(api, "one") == of(api, "one", "other") == {"team": "rain"}
    # All of them or none.
    missing = both + ["default/function/missing"]
    assert tags.code("AttachResourcesTag", ResourceIds=missing, TagKey="new", TagValue="1", **SCF) == "ResourceNotFound.Function"
    assert of(api, "one") == {"team": "rain"}
    some = tags("TagResources", ResourceList=[resource("two"), resource("missing"), resource("xyz", "nowhere")],
                Tags=[{"TagKey": "team", "TagValue": "sun"}, {"TagKey": "a", "TagValue": "b"}])
    assert [(one.Resource, one.Code) for one in some.FailedResources] == [
        (resource("missing"), "ResourceNotFound.Function"), (resource("xyz", "nowhere"), "ResourceNotFound.Namespace")]
    assert of(api, "two") == {"team": "sun", "a": "b"}
    assert not tags("UnTagResources", ResourceList=[resource("two")], TagKeys=["a", "never"]).FailedResources
    assert of(api, "two") == {"team": "sun"}


def test_functions_are_tagged_by_their_ids(server, api, tags, tmp_path):
    api("CreateFunction", FunctionName="known", Namespace="other", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    number = api("GetFunction", FunctionName="known", Namespace="other").FunctionId
    by_id = "qcs::scf:ap-guangzhou:uin/100000000001:lam/" + number
    lam = dict(SCF, ResourcePrefix="lam")
    tags("AddResourceTag", Resource=by_id, TagKey="colour", TagValue="grey")
    tags("ModifyResourceTags", Resource=by_id, ReplaceTags=[{"TagKey": "colour", "TagValue": "blue"}])
    assert not tags("TagResources", ResourceList=[by_id], Tags=[{"TagKey": "size", "TagValue": "1"}]).FailedResources
    tags("AttachResourcesTag", ResourceIds=[number], TagKey="team", TagValue="rain", **lam)
    expected = {"colour": "blue", "size": "1", "team": "rain"}
    assert of(api, "known", "other") == expected
    # Rows name a function as the request does.
    for rows in (tags("DescribeResourceTagsByResourceIds", ResourceIds=[number], **lam).Tags, tags("DescribeResourceTags", ResourceId=number, **lam).Rows):
        assert {row.TagKey: row.TagValue for row in rows} == expected
        assert {row.ResourceId for row in rows} == {number}
    found = tags("GetResources", ResourceList=[by_id])
    assert [one.Resource for one in found.ResourceTagMappingList] == [resource("known", "other")]
    # A policy on functions holds for their ids.
    one = Tags(make_key(server, tmp_path, [{"effect": "allow", "action": ["tag:*"], "resource": [resource("known", "other")]}]))
    one("DeleteResourceTag", Resource=by_id, TagKey="size")
    one("DetachResourcesTag", ResourceIds=[number], TagKey="team", **lam)
    other = api("GetFunction", FunctionName="one").FunctionId
    for action, fields in [
        ("DeleteResourceTag", dict(Resource=by_id.replace(number, other), TagKey="team")),
        ("UnTagResources", dict(ResourceList=[by_id, by_id.replace(number, other)], TagKeys=["team"])),
        ("DetachResourcesTag", dict(lam, ResourceIds=[other], TagKey="team")),
        ("DescribeResourceTagsByResourceIds", dict(lam, ResourceIds=[other])),
        ("GetResources", dict(ResourceList=[by_id.replace(number, other)])),
    ]:
        assert one.code(action, **fields) == "UnauthorizedOperation", action
    assert not tags("UnTagResources", ResourceList=[by_id], TagKeys=["colour"]).FailedResources
    assert of(api, "known", "other") == {}
    api("DeleteFunction", FunctionName="known", Namespace="other")


def test_layer_version_shows_its_tags(api):
    content = {"ZipFile": package(FIRST)}
    api("PublishLayerVersion", LayerName="tagged", CompatibleRuntimes=["Python3.9"], Content=content, Tags=[{"Key": "team", "Value": "rain"}])
    api("PublishLayerVersion", LayerName="tagged", CompatibleRuntimes=["Python3.9"], Content=content)
    shown = api("ListLayerVersions", LayerName="tagged").LayerVersions
    assert [[(tag.Key, tag.Value) for tag in one.Tags] for one in shown] == [[], [("team", "rain")]]
    api("CreateFunction", FunctionName="layered", Runtime="Python3.9", Code=content, Layers=[{"LayerName": "tagged", "LayerVersion": 1}])
    [layer] = api("GetFunction", FunctionName="layered").Layers
    assert [(tag.Key, tag.Value) for tag in layer.Tags] == [("team", "rain")]
    api("DeleteFunction", FunctionName="layered")


def test_tags_and_functions_are_found_by_each_other(api, tags):
    ids = ["default/function/one", "default/function/two", "default/function/bare", "default/function/missing"]
    rows = tags("DescribeResourceTagsByResourceIds", ResourceIds=ids, **SCF)
    assert [(row.ResourceId, row.TagKey, row.TagValue, row.ServiceType) for row in rows.Tags] == [
        ("default/function/one", "team", "rain", "scf"), ("default/function/two", "team", "sun", "scf")]
    assert rows.Tags[0].TagKeyMd5 == "f894427cc1c571f79da49605ef8b112f"
    page = tags("DescribeResourceTagsByResourceIds", ResourceIds=ids, Offset=1, Limit=1, **SCF)
    assert (page.TotalCount, len(page.Tags), page.Tags[0].TagValue) == (2, 1, "sun")
    assert tags("DescribeResourceTagsByResourceIds", ResourceIds=ids, Category="System", **SCF).TotalCount == 0
    rows = tags("DescribeResourceTags")
    assert sorted(row.ResourceId for row in rows.Rows) == ["default/function/one", "default/function/two", "other/function/one"]
    rows = tags("DescribeResourceTags", ResourceId="other/function/one", **SCF)
    assert [row.TagValue for row in rows.Rows] == ["rain"]
    assert tags("DescribeResourceTags", CreateUin=100000000002).TotalCount == 0
    found = tags("GetResources", TagFilters=[{"TagKey": "team", "TagValue": ["rain", "snow"]}])
    assert [one.Resource for one in found.ResourceTagMappingList] == [resource("one"), resource("one", "other")]
    assert [one.TagValue for one in found.ResourceTagMappingList[0].Tags] == ["rain"]
    assert not tags("GetResources", TagFilters=[{"TagKey": "team"}, {"TagKey": "none"}]).ResourceTagMappingList
    assert len(tags("GetResources", ResourceList=[resource("two"), resource("untagged")]).ResourceTagMappingList) == 2
    seen, token = [], ""
    for _ in range(3):
        some = tags("GetResources", MaxResults=1, PaginationToken=token)
        seen += [one.Resource for one in some.ResourceTagMappingList]
        token = some.PaginationToken
    assert seen == [resource("one"), resource("two"), resource("one", "other")] and token == ""
    known = tags("DescribeTags")
    assert [(tag.TagKey, tag.TagValue, tag.CanDelete) for tag in known.Tags] == [("team", "rain", 0), ("team", "sun", 0)]
    assert tags("DescribeTags", TagKey="team", TagValue="sun").TotalCount == 1
    assert tags("DescribeTags", TagKeys=["other"]).TotalCount == 0
    # A tag is there as long as a function has it.
    assert tags.code("CreateTag", TagKey="team", TagValue="rain") == "ResourceInUse.TagDuplicate"
    assert tags.code("DeleteTag", TagKey="team", TagValue="rain") == "FailedOperation.TagAttachedResource"
    tags("CreateTag", TagKey="team", TagValue="snow")
    tags("DeleteTag", TagKey="team", TagValue="snow")
    tags("DetachResourcesTag", ResourceIds=["other/function/one"], TagKey="team", **SCF)
    assert of(api, "one", "other") == {} and of(api, "one") == {"team": "rain"}


def test_disallowed_values_are_refused_by_name(api, tags):
    one = resource("one")
    many = [{"TagKey": str(number), "TagValue": ""} for number in range(10)]
    for number in range(5):
        if number < 4:
            tags("TagResources", ResourceList=[resource("untagged")],
                 Tags=[{"TagKey": "%d-%d" % (number, one), "TagValue": ""} for one in range(10)])
    tags("TagResources", ResourceList=[resource("untagged")], Tags=many)
    over = tags("TagResources", ResourceList=[resource("untagged")], Tags=[{"TagKey": "more", "TagValue": ""}])
    assert [failed.Code for failed in over.FailedResources] == ["LimitExceeded.ResourceAttachedTags"]
    for action, fields, code in [
        ("AddResourceTag", dict(Resource="qcs::cos::uid/1:photos-1", TagKey="k", TagValue="v"), "InvalidParameterValue.ResourceDescriptionError"),
        ("AddResourceTag", dict(Resource=one.replace("ap-guangzhou", "ap-beijing"), TagKey="k", TagValue="v"), "InvalidParameterValue.RegionInvalid"),
        ("AddResourceTag", dict(Resource=resource("one", owner="uin/2"), TagKey="k", TagValue="v"), "InvalidParameterValue.ResourceDescriptionError"),
        ("DeleteResourceTag", dict(Resource=resource("missing"), TagKey="k"), "ResourceNotFound.Function"),
        ("ModifyResourceTags", dict(Resource=one), "InvalidParameterValue"),
        ("ModifyResourceTags", dict(Resource=one, ReplaceTags=many[:1], DeleteTags=[{"TagKey": "0"}]), "InvalidParameterValue.DeleteTagsParamError"),
        ("ModifyResourceTags", dict(Resource=one, ReplaceTags=[{"TagKey": "", "TagValue": "v"}]), "InvalidParameterValue.TagKeyEmpty"),
        ("TagResources", dict(ResourceList=[one], Tags=[{"TagKey": "Tencent-1", "TagValue": "v"}]), "InvalidParameterValue.ReservedTagKey"),
        ("TagResources", dict(ResourceList=[one] * 51, Tags=[]), "InvalidParameterValue"),
        ("UnTagResources", dict(ResourceList=[one], TagKeys=["k" * 128]), "InvalidParameterValue"),
        ("UnTagResources", dict(ResourceList=["x" * 300], TagKeys=["k"]), "InvalidParameterValue.ResourceDescriptionError"),
        ("AttachResourcesTag", dict(SCF, ServiceType="cos", ResourceIds=["x"], TagKey="k", TagValue="v"), "InvalidParameterValue.ServiceTypeInvalid"),
        ("AttachResourcesTag", dict(SCF, ResourceIds=["one"], TagKey="k", TagValue="v"), "InvalidParameterValue.ResourceIdInvalid"),
        ("DetachResourcesTag", dict(SCF, ResourcePrefix="vpc", ResourceIds=["x"], TagKey="k"), "InvalidParameterValue.ResourcePrefixInvalid"),
        ("DetachResourcesTag", dict(SCF, ResourcePrefix="lam", ResourceIds=["x"], TagKey="k"), "ResourceNotFound.Function"),
        ("AddResourceTag", dict(Resource="qcs::scf:ap-guangzhou::lam/lam-none", TagKey="k", TagValue="v"), "ResourceNotFound.Function"),
        ("AddResourceTag", dict(Resource="qcs::scf:ap-guangzhou::layer/shared", TagKey="k", TagValue="v"), "InvalidParameterValue.ResourceDescriptionError"),
        ("DetachResourcesTag", dict(SCF, ResourceIds=["default/function/one"], TagKey="never"), "ResourceNotFound.AttachedTagKeyNotFound"),
        ("DescribeResourceTags", dict(ServiceType="cvm"), "InvalidParameterValue.ServiceTypeInvalid"),
        ("DescribeResourceTags", dict(Offset=3, Limit=2), "InvalidParameterValue.Offset"),
        ("DescribeResourceTagsByResourceIds", dict(SCF, ResourceRegion="ap-beijing", ResourceIds=[]), "InvalidParameterValue.RegionInvalid"),
        ("DescribeResourceTagsByResourceIds", dict(SCF, ResourceIds=["default/function/one"], Category="Mine"), "InvalidParameterValue"),
        ("DescribeTags", dict(Limit=1001), "InvalidParameterValue.Limit"),
        ("DescribeTags", dict(Offset=-1), "InvalidParameterValue.Offset"),
        ("GetResources", dict(MaxResults=201), "InvalidParameterValue"),
        ("GetResources", dict(PaginationToken="x"), "InvalidParameter.PaginationTokenInvalid"),
        ("CreateTag", dict(TagKey="", TagValue="v"), "InvalidParameterValue.TagKeyEmpty"),
        ("DeleteTag", dict(TagKey="qcloud", TagValue="v"), "InvalidParameterValue.ReservedTagKey"),
    ]:
        assert tags.code(action, **fields) == code, (action, fields)
    assert of(api, "one") == {"team": "rain"}


def test_policy_limits_tagging_and_tag_lists(server, api, tags, tmp_path):
    scf_alone = Tags(make_key(server, tmp_path, [{"effect": "allow", "action": "scf:*", "resource": "*"}]))
    fields = dict(Resource=resource("two"), TagKey="k", TagValue="v")
    assert scf_alone.code("AddResourceTag", **fields) == "UnauthorizedOperation"
    one = Tags(make_key(server, tmp_path, [{"effect": "allow", "action": ["tag:*"], "resource": [resource("two")]}]))
    one("AddResourceTag", **fields)
    assert one.code("AddResourceTag", **dict(fields, Resource=resource("one"))) == "UnauthorizedOperation"
    # One that may not be tagged keeps the others from it.
    assert one.code("TagResources", ResourceList=[resource("two"), resource("one")], Tags=[{"TagKey": "x", "TagValue": ""}]) == "UnauthorizedOperation"
    assert one.code("AttachResourcesTag", ResourceIds=["default/function/one"], TagKey="x", TagValue="y", **SCF) == "UnauthorizedOperation"
    assert one.code("GetResources", ResourceList=[resource("one")]) == "UnauthorizedOperation"
    # A policy on one function permits no lists of the account.
    assert one.code("DescribeTags") == "UnauthorizedOperation"
    lists = [{"effect": "allow", "action": ["tag:Describe*", "tag:Get*"], "resource": ["*"]},
             {"effect": "deny", "action": ["tag:*"], "resource": [resource("one")]}]
    lister = Tags(make_key(server, tmp_path, lists))
    assert "rain" not in [tag.TagValue for tag in lister("DescribeTags", Limit=100).Tags]
    assert resource("one") not in [found.Resource for found in lister("GetResources").ResourceTagMappingList]
    assert "default/function/one" not in [row.ResourceId for row in lister("DescribeResourceTags", Limit=100).Rows]
    assert lister.code("AddResourceTag", **fields) == "UnauthorizedOperation"
    tags("DeleteResourceTag", Resource=resource("two"), TagKey="k")


@pytest.mark.parametrize("service,version,action", [
    ("vpc", "2017-03-12", "DescribeVpcs"), ("apigateway", "2018-08-08", "CreateService"), ("cls", "2020-10-16", "CreateTopic"),
    # It has the tag service's version.
    ("sts", "2018-08-13", "AssumeRole"), ("cam", "2019-01-16", "ListUsers")])
def test_unknown_service_is_refused_by_name(server, service, version, action):
    profile = ClientProfile(httpProfile=HttpProfile(endpoint=server.address, protocol="http"))
    client = CommonClient(service, version, credential.Credential(server.secret_id, server.secret_key), "ap-guangzhou", profile=profile)
    with pytest.raises(TencentCloudSDKException) as refused:
        client.call_json(action, {})
    assert refused.value.get_code() == "NoSuchProduct"
    assert '"%s" is not here; there are scf' % service in refused.value.get_message()


def test_unsupported_action_of_the_service_is_refused_by_name(tags):
    with pytest.raises(TencentCloudSDKException) as refused:
        tags.client.call_json("GetTagKeys", {})
    assert refused.value.get_code() == "InvalidAction"
    assert "GetTagKeys" in refused.value.get_message() and "ModifyResourceTags" in refused.value.get_message()


@pytest.mark.parametrize("method", ["HmacSHA1", "HmacSHA256"])
def test_older_signatures_name_no_service(server, api, method):
    assert Tags(server, method=method)("DescribeTags").TotalCount >= 1


def test_the_command_line_calls_it(server, api):
    shown = json.loads(server.cli("api", "GetResources", json.dumps({"TagFilters": [{"TagKey": "team"}]})))
    assert resource("one") in [one["Resource"] for one in shown["ResourceTagMappingList"]]
