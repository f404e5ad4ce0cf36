"""The template: what it promises, and what the resolver refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from events.keys import CONTROL_SUFFIX, MANIFEST_SUFFIXES, ROOT, SHARED, Flow
from infra.settings import Settings
from infra.stack.resources import kind_of
from infra.stack.spelling import agrees
from infra.stack.template import Resource, Scope, Template, TemplateError, resolve

TEMPLATE = Path(__file__).parents[2] / "infra" / "template.yaml"
WORK_QUEUES = ("Queries", "Visualizations", "Controls")
QUEUES = (*WORK_QUEUES, "Results", "DeadLetters")
ONLY_OVER_TLS = {"Bool": {"aws:SecureTransport": "false"}}


def _scope(template, **parameters):
    pseudo = {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": "111122223333"}
    return Scope({**template.parameters(parameters), **pseudo}, lambda logical_id, name: f"<{logical_id}.{name}>")


def _properties(logical_id, **parameters):
    template = Template.shipped()
    return resolve(template.resources[logical_id].properties, _scope(template, **parameters))


def _statements(policy_id):
    return {statement["Sid"]: statement for statement in _properties(policy_id)["PolicyDocument"]["Statement"]}


# ---------------------------------------------------------------- what it promises


def test_the_linter_finds_nothing():
    linter = Path(sys.executable).with_name("cfn-lint")
    lint = subprocess.run([linter, TEMPLATE], capture_output=True, text=True, check=False)

    assert (lint.returncode, lint.stdout) == (0, "")


def test_every_manifest_and_control_has_a_queue_of_its_own():
    configurations = _properties("Bucket")["NotificationConfiguration"]["QueueConfigurations"]
    rules = {
        each["Queue"]: {rule["Name"]: rule["Value"] for rule in each["Filter"]["S3Key"]["Rules"]}
        for each in configurations
    }

    assert rules == {
        "<Queries.Arn>": {"prefix": ROOT, "suffix": MANIFEST_SUFFIXES[Flow.QUERY]},
        "<Visualizations.Arn>": {"prefix": ROOT, "suffix": MANIFEST_SUFFIXES[Flow.VISUALIZATION]},
        "<Controls.Arn>": {"prefix": ROOT, "suffix": CONTROL_SUFFIX},
    }


def test_what_cannot_be_read_for_a_day_is_gone_with_its_unfinished_uploads():
    rules = _properties("Bucket")["LifecycleConfiguration"]["Rules"]

    assert [rule["Prefix"] for rule in rules] == [ROOT, SHARED]
    assert {rule["Status"] for rule in rules} == {"Enabled"}
    assert [rule["ExpirationInDays"] for rule in rules] == [1, 1]
    assert [rule["AbortIncompleteMultipartUpload"] for rule in rules] == [{"DaysAfterInitiation": 1}] * 2


@pytest.mark.parametrize("logical_id", QUEUES)
def test_every_queue_refuses_what_does_not_come_over_tls(logical_id):
    policies = [_properties("WorkQueuesPolicy"), _properties("OtherQueuesPolicy")]
    covering = [policy for policy in policies if f"<{logical_id}.Ref>" in policy["Queues"]]

    assert len(covering) == 1
    assert {
        "Sid": "OnlyOverTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": "*",
        "Condition": ONLY_OVER_TLS,
    } in covering[0]["PolicyDocument"]["Statement"]


def test_the_bucket_and_its_objects_refuse_what_does_not_come_over_tls():
    statement = _statements("BucketPolicy")["OnlyOverTls"]

    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == ONLY_OVER_TLS
    assert statement["Resource"] == ["arn:aws:s3:::dropchute-temp", "arn:aws:s3:::dropchute-temp/*"]


def test_only_this_bucket_of_this_account_may_send_to_the_work_queues():
    allowed = [each for each in _statements("WorkQueuesPolicy").values() if each["Effect"] == "Allow"]

    assert allowed == [
        {
            "Sid": "OnlyTheBucketSends",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "*",
            "Condition": {
                "ArnEquals": {"aws:SourceArn": "arn:aws:s3:::dropchute-temp"},
                "StringEquals": {"aws:SourceAccount": "111122223333"},
            },
        }
    ]
    assert all(each["Effect"] == "Deny" for each in _statements("OtherQueuesPolicy").values())


def test_the_dead_letter_queue_takes_from_the_work_queues_alone():
    sources = _properties("DeadLetters", Stack="s")["RedriveAllowPolicy"]["sourceQueueArns"]
    names = [_properties(logical_id, Stack="s")["QueueName"] for logical_id in WORK_QUEUES]

    assert sources == [f"arn:aws:sqs:eu-west-1:111122223333:{name}" for name in names]
    for logical_id in WORK_QUEUES:
        assert _properties(logical_id)["RedrivePolicy"]["deadLetterTargetArn"] == "<DeadLetters.Arn>"


def test_the_bucket_comes_after_the_policy_that_lets_it_send():
    assert Template.shipped().resources["Bucket"].depends_on == ("WorkQueuesPolicy",)


def test_every_resource_comes_after_those_it_needs():
    queue = "Type: 'AWS::SQS::Queue'"
    template = Template(
        "Resources:\n"
        f"  A: {{{queue}, DependsOn: B}}\n"
        f"  B: {{{queue}, Properties: {{QueueName: !Ref C}}}}\n"
        f"  C: {{{queue}, Properties: {{QueueName: !Sub '${{D.Arn}}'}}}}\n"
        f"  D: {{{queue}, Properties: {{RedrivePolicy: {{deadLetterTargetArn: !GetAtt E.Arn}}}}}}\n"
        f"  E: {{{queue}}}\n"
    )

    assert [resource.logical_id for resource in template.in_order()] == ["E", "D", "C", "B", "A"]


def test_the_queues_hide_a_message_as_long_as_workers_expect():
    seconds = {_properties(logical_id)["VisibilityTimeout"] for logical_id in WORK_QUEUES}

    assert seconds == {Settings.model_fields["visibility_seconds"].default}


def test_no_default_lets_every_web_page_upload():
    origins = _properties("Bucket")["CorsConfiguration"]["CorsRules"][0]["AllowedOrigins"]

    assert origins == ["http://localhost:3000"]


# ---------------------------------------------------------------- what the resolver refuses


def _refusal(resources, *, before=""):
    with pytest.raises(TemplateError) as refused:
        _read(f"{before}\nResources:\n{resources}")
    return str(refused.value)


def _read(text):
    template = Template(text)
    for resource in template.in_order():
        kind_of(resource).wanted(resource, resolve(resource.properties, _scope(template)))


def test_an_unknown_section_is_refused():
    text = _refusal("  Q: {Type: 'AWS::SQS::Queue'}", before="Conditions: {}")

    assert text == "Conditions is not known in the template."


def test_an_unknown_type_is_refused():
    text = _refusal("  Topic: {Type: 'AWS::SNS::Topic'}")

    assert text == "Topic is of the unknown type AWS::SNS::Topic."


def test_an_unknown_field_of_a_resource_is_refused():
    text = _refusal("  Q: {Type: 'AWS::SQS::Queue', Condition: IsProduction}")

    assert text == "Condition is not known in Q."


@pytest.mark.parametrize(
    ("resource", "complaint"),
    [
        ("Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: q, KmsMasterKeyId: k}}", "Q.KmsMasterKeyId"),
        (
            "Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: q, RedrivePolicy: {maxReceives: 3}}}",
            "Q.RedrivePolicy.maxReceives",
        ),
        ("B: {Type: 'AWS::S3::Bucket', Properties: {BucketName: b, WebsiteConfiguration: {}}}", "B.Website"),
        (
            "B: {Type: 'AWS::S3::Bucket', Properties: {LifecycleConfiguration: {Rules: [{Id: a, TagFilters: []}]}}}",
            "B.LifecycleConfiguration.Rules.TagFilters",
        ),
        ("P: {Type: 'AWS::S3::BucketPolicy', Properties: {Bucket: b, PolicyDocument: {}, Tags: []}}", "P.Tags"),
        ("P: {Type: 'AWS::SQS::QueuePolicy', Properties: {Queues: [], PolicyDocument: {}, Tags: []}}", "P.Tags"),
    ],
)
def test_an_unknown_property_is_refused_at_any_depth(resource, complaint):
    text = _refusal(f"  {resource}")

    assert text.startswith(complaint)
    assert text.endswith("is not known to provisioning.")


@pytest.mark.parametrize(
    "value",
    [
        "{'Fn::Select': [0, [a]]}",
        "{'Fn::Sub': [text, {}]}",
        "{'Fn::GetAtt': Q.Arn}",
        "{Ref: [a]}",
        "{Ref: Stack, Other: 1}",
    ],
)
def test_an_unknown_intrinsic_is_refused(value):
    text = _refusal(f"  Q: {{Type: 'AWS::SQS::Queue', Properties: {{QueueName: {value}}}}}")

    assert "is not known in this form" in text


def test_an_unknown_short_form_is_refused():
    text = _refusal("  Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: !Join ['-', [a, b]]}}")

    assert "!Join" in text


def test_a_circle_is_refused():
    text = _refusal(
        "  A: {Type: 'AWS::SQS::Queue', Properties: {QueueName: !Ref B}}\n"
        "  B: {Type: 'AWS::SQS::Queue', Properties: {QueueName: !Sub '${A.QueueName}'}}"
    )

    assert "circle" in text


def test_needing_a_resource_that_is_not_there_is_refused():
    text = _refusal("  Q: {Type: 'AWS::SQS::Queue', DependsOn: Nobody}")

    assert text == "Q depends on Nobody, which is not in the template."


def test_a_list_does_not_pass_for_text():
    with pytest.raises(TemplateError, match="which is no text"):
        resolve({"Fn::Sub": "${Names}"}, Scope({"Names": ["a"]}, lambda logical_id, name: ""))


@pytest.mark.parametrize("origin", ["*", "https://*.example.com", "example.com", "https://example.com/path"])
def test_only_whole_origins_may_upload(origin):
    with pytest.raises(TemplateError, match="AllowedOrigins"):
        Template.shipped().parameters({"AllowedOrigins": ["https://fine.example.com", origin]})


def test_several_origins_may_be_given():
    given = ["https://a.example.com", "http://localhost:8080"]

    assert Template.shipped().parameters({"AllowedOrigins": given})["AllowedOrigins"] == given


def test_a_parameter_that_the_template_does_not_have_is_refused():
    with pytest.raises(TemplateError, match="Colour"):
        Template.shipped().parameters({"Colour": "red"})


@pytest.mark.parametrize("name", ["Upper", "a_b", "", "x" * 41])
def test_the_template_and_the_settings_refuse_the_same_stack_names(name):
    with pytest.raises(TemplateError, match="Stack"):
        Template.shipped().parameters({"Stack": name})
    with pytest.raises(ValueError, match="stack"):
        Settings(stack=name)


# ---------------------------------------------------------------- what counts as the same


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ({"Days": 1}, {"Days": 1, "Id": "the service's own"}, True),
        ({"Days": 1}, {"Days": 2}, False),
        ({"Days": 1}, {}, False),
        ({"Days": 1}, None, False),
        (["GET", "PUT"], ["PUT", "GET"], True),
        (["GET"], ["GET", "DELETE"], False),
        (["GET", "GET"], ["GET", "PUT"], False),
        ([{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1, "b": 3}], True),
        ([], None, False),
    ],
)
def test_a_service_may_add_fields_and_reorder_lists_but_change_nothing(wanted, found, same):
    assert agrees(wanted, found) is same


def test_a_policy_must_be_exactly_the_same():
    kind = kind_of(Resource("P", "AWS::S3::BucketPolicy", {}))

    assert not kind.agrees({"Statement": []}, {"Statement": [], "Id": "x"})
