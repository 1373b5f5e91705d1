"""Callers with tokens of an OpenID Connect issuer over TLS, or of a Cognito user pool."""

from __future__ import annotations

import gzip
import hmac
import io
import json
import os
import time
import zipfile
from base64 import b64encode
from hashlib import sha256

import pytest
import requests

from framegate.access.tokens import LEEWAY_SECONDS
from local.cloud import ACCOUNT, LocalCloud
from local.token_issuer import KEY_SET, SigningKey, TokenIssuer
from tests.e2e.conftest import CONTENT_TYPES, ORIGIN, Api, log_reader
from tests.e2e.watching import wait_for
from tests.forging import base64url, compact, hs256, part, public_pem

SMALL, LARGE = os.urandom(100_000), os.urandom(6_000_000)
CLAIM = "https://example.org/datastores"
IMAGE_SETS, STUDIES = "https://example.org/image-sets", "https://example.org/studies"
SCOPE = "frames/read"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    with TokenIssuer(tmp_path_factory.mktemp("issuer"), "/realms/imaging") as running:
        yield running


@pytest.fixture(scope="module")
def key(issuer):
    return issuer.new_key("RS256", "first")


@pytest.fixture(scope="module")
def cloud(issuer):
    with LocalCloud(trusted=issuer.certificate) as running:
        yield running


@pytest.fixture(scope="module")
def datastores(cloud):
    """Two data stores, both served."""
    return [cloud.health_imaging.create_datastore(name) for name in ("first", "second")]


@pytest.fixture(scope="module")
def frames(cloud, datastores):
    return [cloud.health_imaging.add_frame(each, SMALL, "image/jph") for each in datastores]


class Caller:
    """Calls the API as a browser's page does, with the given Authorization header."""

    def __init__(self, deployment):
        self._api = Api(deployment.api_url)

    def frame_url(self, frame):
        return self._api.frame_url(frame)

    def get(self, frame, authorization=None, **arguments):
        return self.request("GET", self._api.frame_url(frame), authorization, **arguments)

    def request(self, method, url, authorization=None, headers=None, **arguments):
        given = {"Authorization": authorization} if authorization is not None else {}
        headers = {"Origin": ORIGIN, **given, **(headers or {})}
        return requests.request(method, url, headers=headers, timeout=60, allow_redirects=False, **arguments)

    def head(self, frame, authorization=None):
        return self.request("HEAD", self._api.frame_url(frame), authorization)

    def index(self, frame, authorization=None):
        return self.request(
            "GET", f"{self._api.frame_url(frame).rpartition('/imageFrame/')[0]}/imageFrames", authorization
        )

    def preflight(self, frame):
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        return self.request("OPTIONS", self._api.frame_url(frame), headers=asked)


def problem(answer):
    """The status and the problem of a refusal, which a page of another origin can read."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["requestId"]
    return answer.status_code, document["type"].removeprefix("urn:framegate:problem:")


# The decision function of the deployer

DECIDE = """
import json, os

def handler(event, context):
    if event["principal"] == os.environ["BROKEN_FOR"]:
        raise ValueError("out of order")
    denied = [event["principal"], event["studyInstanceUID"]] in json.loads(os.environ["DENIED"])
    reason = "not on the ward" if denied else "treats the patient"
    return {"allow": not denied, "reason": reason, "cacheSeconds": 0}
"""


class DecisionFunction:
    """A Lambda function in the local cloud that denies what a test tells it to."""

    def __init__(self, cloud):
        self._lambda = cloud.client("lambda")
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("decide.py", DECIDE)
        self.arn = self._lambda.create_function(
            FunctionName="image-access",
            Runtime="python3.13",
            Handler="decide.handler",
            Role=f"arn:aws:iam::{ACCOUNT}:role/image-access",
            Code={"ZipFile": code.getvalue()},
            Environment={"Variables": {"DENIED": "[]", "BROKEN_FOR": ""}},
        )["FunctionArn"]

    def configure(self, denied=(), broken_for=""):
        variables = {"DENIED": json.dumps([list(each) for each in denied]), "BROKEN_FOR": broken_for}
        self._lambda.update_function_configuration(FunctionName="image-access", Environment={"Variables": variables})


@pytest.fixture(scope="module")
def decision_function(cloud):
    return DecisionFunction(cloud)


@pytest.fixture
def decisions(decision_function):
    """The decision function, which allows everything before and after the test."""
    decision_function.configure()
    yield decision_function
    decision_function.configure()


@pytest.fixture(scope="module")
def study_of(cloud):
    """The study instance UID of a frame's image set."""

    def read(frame):
        metadata = cloud.client("medical-imaging").get_image_set_metadata(
            datastoreId=frame.datastore_id, imageSetId=frame.image_set_id
        )
        document = json.loads(gzip.decompress(metadata["imageSetMetadataBlob"].read()))
        return document["Study"]["DICOM"]["StudyInstanceUID"]

    return read


def statuses(caller, frames, authorization):
    """The statuses of a frame, its headers, a revalidation and the index, for each frame."""
    return [
        [
            caller.get(frame, authorization).status_code,
            caller.head(frame, authorization).status_code,
            caller.get(
                frame, authorization, headers={"If-None-Match": f'"{frame.image_frame_id}.image/jph"'}
            ).status_code,
            caller.index(frame, authorization).status_code,
        ]
        for frame in frames
    ]


ALLOWED, DENIED = [200, 200, 304, 200], [403] * 4


def audited(cloud, stack_name, count):
    """Return a function that waits for this many audit records of answers from now on.

    It returns the sorted statuses by principal and image set, and the issuers in the records.
    """
    log = log_reader(cloud, f"/{stack_name}/ApiFunction")

    def answers():
        return [line for line in log() if line.get("audit") == "answer"]

    def read():
        wait_for(lambda: len(answers()) >= count)
        statuses_of, lines = {}, answers()
        for line in lines:
            assert line["sourceIp"]
            assert line["requestId"]
            statuses_of.setdefault((line["principal"], line["imageSetId"]), []).append(line["status"])
        return {who: sorted(each) for who, each in statuses_of.items()}, {line.get("issuer") for line in lines}

    return read


def records_of(frames, **statuses_of):
    """The records of people, of each person for each frame."""
    return {
        (principal, frame.image_set_id): sorted(each)
        for principal, statuses_by_frame in statuses_of.items()
        for frame, each in zip(frames, statuses_by_frame, strict=True)
    }


# Tokens of an OpenID Connect issuer


@pytest.fixture(scope="module")
def jwt_deployment(cloud, datastores, issuer, decision_function):
    return cloud.deploy(
        *datastores,
        stack_name="Framegate-Jwt",
        cors_origins=ORIGIN,
        auth="jwt",
        jwt_issuer=issuer.url,
        jwt_audience="framegate",
        jwt_datastores_claim=CLAIM,
        jwt_image_sets_claim=IMAGE_SETS,
        jwt_studies_claim=STUDIES,
        jwt_max_lifetime_seconds="3600",
        authorization_function_arn=decision_function.arn,
    )


@pytest.fixture(scope="module")
def answer_without_issuer(jwt_deployment, issuer, key, claims, frames):
    """The response to a valid token while the issuer is unreachable and none of its keys is known."""
    caller, token = Caller(jwt_deployment), key.sign(claims())
    issuer.answers[KEY_SET] = 503, {}, b""
    answer = caller.get(frames[0], f"Bearer {token}")
    issuer.answers.clear()
    wait_for(lambda: caller.get(frames[0], f"Bearer {token}").status_code == 200)
    return answer


@pytest.fixture
def caller(jwt_deployment, answer_without_issuer):
    return Caller(jwt_deployment)


@pytest.fixture(scope="module")
def claims(issuer, datastores, frames):
    """Claims of a valid token for the first data store, and for the image sets of all frames."""
    image_sets = [frame.image_set_id for frame in frames]
    return lambda **changed: issuer.claims(**{CLAIM: datastores[:1], IMAGE_SETS: image_sets, **changed})


def test_token_gets_the_frame(caller, key, claims, frames):
    answer = caller.get(frames[0], f"Bearer {key.sign(claims())}")
    assert (answer.status_code, answer.content) == (200, SMALL)
    assert answer.headers["Content-Type"] == CONTENT_TYPES["image/jph"]
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_presigned_url_of_a_large_frame_needs_no_token(caller, cloud, key, claims, datastores):
    frame = cloud.health_imaging.add_frame(datastores[0], LARGE, "video/mp4")
    answer = caller.get(frame, f"Bearer {key.sign(claims(**{IMAGE_SETS: frame.image_set_id}))}")
    assert answer.status_code == 303
    assert requests.get(answer.headers["Location"], timeout=60).content == LARGE


def test_preflight_needs_no_token(caller, frames):
    answer = caller.preflight(frames[0])
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()


REFUSED = {
    "no token": lambda key, claims: None,
    "no scheme": lambda key, claims: key.sign(claims()),
    "another scheme": lambda key, claims: f"Basic {key.sign(claims())}",
    "signed by SigV4": lambda key, claims: "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c",
    "no JWT": lambda key, claims: "Bearer opaque",
    "expired": lambda key, claims: f"Bearer {key.sign(claims(exp=int(time.time()) - LEEWAY_SECONDS))}",
    "not yet valid": lambda key, claims: f"Bearer {key.sign(claims(nbf=int(time.time()) + 120))}",
    "unsigned": lambda key, claims: f"Bearer {compact({'alg': 'none'}, claims())}",
    "wrong key": lambda key, claims: f"Bearer {SigningKey('RS256', 'first').sign(claims())}",
    "unknown key": lambda key, claims: f"Bearer {SigningKey('RS256', 'second').sign(claims())}",
    "wrong issuer": lambda key, claims: f"Bearer {key.sign(claims(iss='https://login.example.org'))}",
    "wrong audience": lambda key, claims: f"Bearer {key.sign(claims(aud='somebody-else'))}",
    "HS256 with the public key": lambda key, claims: (
        f"Bearer {compact({'alg': 'HS256', 'kid': 'first'}, claims(), hs256(public_pem(key)))}"
    ),
    "wrong data stores": lambda key, claims: f"Bearer {key.sign(claims(**{CLAIM: '*'}))}",
}


@pytest.mark.parametrize("authorization", REFUSED.values(), ids=REFUSED)
def test_refused_token_answers_401_with_a_problem_document(caller, key, claims, frames, authorization):
    answer = caller.get(frames[0], authorization(key, claims))
    assert problem(answer) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_token_reads_only_the_listed_data_stores(caller, key, claims, frames):
    token = key.sign(claims())
    assert caller.get(frames[0], f"Bearer {token}").status_code == 200
    assert problem(caller.get(frames[1], f"Bearer {token}")) == (403, "caller-denied")


def test_token_that_lists_several_data_stores_reads_each(caller, key, claims, datastores, frames):
    token = key.sign(claims(**{CLAIM: " ".join(datastores)}))
    assert [caller.get(frame, f"Bearer {token}").status_code for frame in frames] == [200, 200]


def test_token_that_lists_no_data_store_answers_403(caller, key, claims, frames):
    assert problem(caller.get(frames[0], f"Bearer {key.sign(claims(**{CLAIM: None}))}")) == (403, "caller-denied")


def test_expired_token_is_refused_despite_the_cached_policy(caller, key, claims, frames):
    ends = int(time.time()) + 3
    token = key.sign(claims(exp=ends - LEEWAY_SECONDS))
    assert caller.get(frames[0], f"Bearer {token}").status_code == 200
    time.sleep(max(0.0, ends - time.time()))
    answer = caller.get(frames[0], f"Bearer {token}")
    assert problem(answer) == (401, "token-expired")
    assert answer.headers["x-amzn-Remapped-WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_requests_fail_while_the_issuer_is_unreachable(answer_without_issuer):
    assert problem(answer_without_issuer) == (500, "authorizer-error")


def test_authorizers_log_has_nothing_of_the_token(caller, cloud, key, claims, frames):
    log = log_reader(cloud, "AuthorizerFunction")
    good = key.sign(claims(sub="Mueller^Hans"))
    late = key.sign(claims(sub="Mueller^Hans", exp=1))
    for token in (good, late):
        caller.get(frames[0], f"Bearer {token}")
    lines = log()
    outcomes = {(line.get("message"), line.get("reason")) for line in lines}
    assert {("token accepted", None), ("token refused", "expired")} <= outcomes
    written = json.dumps(lines)
    assert not [part for part in ("Mueller", *good.split("."), *late.split(".")) if part in written]


# Image sets and studies that a token lists


@pytest.fixture
def listing(issuer, datastores):
    """Claims of a valid token for both data stores, and for the image sets and studies that the test lists."""
    return lambda **changed: issuer.claims(**{CLAIM: datastores, **changed})


def test_two_people_read_the_image_sets_that_their_tokens_list_and_are_on_record(
    caller, cloud, issuer, listing, key, frames, study_of, decisions
):
    records = audited(cloud, "Framegate-Jwt", 4 * 6)
    first = f"Bearer {key.sign(listing(sub='first', **{STUDIES: [study_of(frames[0])]}))}"
    second = f"Bearer {key.sign(listing(sub='second', **{IMAGE_SETS: frames[1].image_set_id}))}"
    nobody = f"Bearer {key.sign(listing(sub='nobody'))}"
    assert statuses(caller, frames, first) == [ALLOWED, DENIED]
    assert statuses(caller, frames, second) == [DENIED, ALLOWED]
    assert statuses(caller, frames, nobody) == [DENIED, DENIED]
    expected = records_of(frames, first=[ALLOWED, DENIED], second=[DENIED, ALLOWED], nobody=[DENIED, DENIED])
    assert records() == (expected, {issuer.url})
    assert problem(caller.get(frames[1], first)) == (403, "image-set-not-granted")


def test_decision_function_tells_two_holders_of_tokens_apart(caller, cloud, listing, key, frames, study_of, decisions):
    lists = {STUDIES: [study_of(frame) for frame in frames]}
    first, second = (f"Bearer {key.sign(listing(sub=name, **lists))}" for name in ("first", "second"))
    log = log_reader(cloud, None)
    decisions.configure(denied=[("first", study_of(frames[1])), ("second", study_of(frames[0]))])
    assert statuses(caller, frames, first) == [ALLOWED, DENIED]
    assert statuses(caller, frames, second) == [DENIED, ALLOWED]
    lines = log()
    decided = {(line.get("decision"), line.get("decisionReason")) for line in lines if "decision" in line}
    assert decided == {("allow", "treats the patient"), ("deny", "not on the ward")}
    assert not [frame for frame in frames if study_of(frame) in json.dumps(lines)]


def test_broken_decision_function_lets_nobody_in(caller, listing, key, frames, study_of, decisions):
    token = key.sign(listing(sub="first", **{STUDIES: [study_of(frames[0])]}))
    decisions.configure(broken_for="first")
    answer = caller.get(frames[0], f"Bearer {token}")
    assert problem(answer) == (503, "authorization-unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("header", "changed"),
    [
        ({"typ": "logout+jwt"}, {}),
        ({}, {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
        ({}, {"token_use": "refresh"}),
        ({}, {"typ": "Refresh"}),
        ({}, {"exp": int(time.time()) + 86_400}),
    ],
)
def test_token_of_another_kind_answers_401(caller, listing, key, frames, header, changed):
    token = key.sign(listing(**{IMAGE_SETS: frames[0].image_set_id, **changed}), headers=header)
    assert problem(caller.get(frames[0], f"Bearer {token}")) == (401, "unauthorized")


@pytest.mark.parametrize("suffix", ["/", "//", "%20"])
def test_path_that_is_not_exactly_the_route_reads_nothing(caller, listing, key, frames, suffix):
    token = key.sign(listing(**{IMAGE_SETS: frames[0].image_set_id}))
    answer = caller.request("GET", caller.frame_url(frames[0]) + suffix, f"Bearer {token}")
    assert answer.status_code in (400, 403, 404)
    assert answer.content != SMALL


# IAM


@pytest.fixture(scope="module")
def iam_deployment(cloud, datastores, decision_function):
    return cloud.deploy(
        *datastores,
        stack_name="Framegate-Iam",
        api_gateway_account_role="false",
        authorization_function_arn=decision_function.arn,
    )


def test_decision_function_and_records_tell_two_iam_users_apart(iam_deployment, cloud, frames, study_of, decisions):
    iam, apis, records = cloud.client("iam"), [], audited(cloud, "Framegate-Iam", 4)
    for name in ("first", "second"):
        user = iam.create_user(UserName=name)["User"]
        access = iam.create_access_key(UserName=name)["AccessKey"]
        apis.append((user["Arn"], Api(iam_deployment.api_url, access["AccessKeyId"], access["SecretAccessKey"])))
    (first_arn, first), (second_arn, second) = apis
    decisions.configure(denied=[(first_arn, study_of(frames[1])), (second_arn, study_of(frames[0]))])
    assert [first.get(frame).status_code for frame in frames] == [200, 403]
    assert [second.get(frame).status_code for frame in frames] == [403, 200]
    expected = records_of(frames, **{first_arn: [[200], [403]], second_arn: [[403], [200]]})
    assert records() == (expected, {None})


# Tokens of a Cognito user pool


@pytest.fixture(scope="module")
def cognito(cloud):
    return cloud.client("cognito-idp")


def new_pool(cognito, name):
    """A user pool with a scope, and a client that gets access tokens for the scope with its secret."""
    pool = cognito.create_user_pool(PoolName=name)["UserPool"]
    cognito.create_resource_server(
        UserPoolId=pool["Id"],
        Identifier="frames",
        Name="frames",
        Scopes=[{"ScopeName": each, "ScopeDescription": each} for each in ("read", "other")],
    )
    return pool, new_client(cognito, pool, "pipeline")


def new_client(cognito, pool, name):
    """An app client that gets access tokens for the scopes of a pool with its secret."""
    return cognito.create_user_pool_client(
        UserPoolId=pool["Id"],
        ClientName=name,
        GenerateSecret=True,
        AllowedOAuthFlows=["client_credentials"],
        AllowedOAuthScopes=["frames/read", "frames/other"],
        AllowedOAuthFlowsUserPoolClient=True,
        ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
    )["UserPoolClient"]


@pytest.fixture(scope="module")
def pool(cognito):
    return new_pool(cognito, "readers")


@pytest.fixture(scope="module")
def second_client(cognito, pool):
    """The pool, and another of its app clients that the deployment accepts."""
    return pool[0], new_client(cognito, pool[0], "viewer")


@pytest.fixture(scope="module")
def cognito_deployment(cloud, datastores, pool, second_client, decision_function):
    return cloud.deploy(
        *datastores,
        stack_name="Framegate-Cognito",
        cors_origins=ORIGIN,
        api_gateway_account_role="false",
        auth="cognito",
        cognito_user_pool_arn=pool[0]["Arn"],
        cognito_scopes=SCOPE,
        cognito_client_ids=f"{pool[1]['ClientId']},{second_client[1]['ClientId']}",
        authorization_function_arn=decision_function.arn,
    )


@pytest.fixture
def member(cognito_deployment):
    return Caller(cognito_deployment)


@pytest.fixture(scope="module")
def access_token(cloud):
    """Gets an access token for a scope from the token endpoint of a pool."""

    def get(pool, scope):
        client = pool[1]
        answer = requests.post(
            f"{cloud.endpoint}/oauth2/token",
            data={"grant_type": "client_credentials", "scope": scope},
            auth=(client["ClientId"], client["ClientSecret"]),
            timeout=60,
        )
        return answer.json()["access_token"]

    return get


@pytest.fixture(scope="module")
def user_tokens(cognito, pool):
    """The tokens of a signed-in user."""
    user_pool, client = pool
    cognito.admin_create_user(UserPoolId=user_pool["Id"], Username="reader", MessageAction="SUPPRESS")
    cognito.admin_set_user_password(
        UserPoolId=user_pool["Id"], Username="reader", Password="Correct-horse-1", Permanent=True
    )
    secret_hash = hmac.digest(client["ClientSecret"].encode(), f"reader{client['ClientId']}".encode(), sha256)
    return cognito.initiate_auth(
        ClientId=client["ClientId"],
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={
            "USERNAME": "reader",
            "PASSWORD": "Correct-horse-1",
            "SECRET_HASH": b64encode(secret_hash).decode(),
        },
    )["AuthenticationResult"]


def test_access_token_with_the_scope_reads_every_data_store(member, access_token, pool, frames):
    token = access_token(pool, SCOPE)
    assert [member.get(frame, f"Bearer {token}").content for frame in frames] == [SMALL, SMALL]


def test_decision_function_and_records_tell_two_clients_of_a_pool_apart(
    member, cloud, access_token, pool, second_client, frames, study_of, decisions
):
    records = audited(cloud, "Framegate-Cognito", 4 * 4)
    first, second = access_token(pool, SCOPE), access_token(second_client, SCOPE)
    first_name, second_name = part(first, 1)["sub"], part(second, 1)["sub"]
    decisions.configure(denied=[(first_name, study_of(frames[1])), (second_name, study_of(frames[0]))])
    assert statuses(member, frames, f"Bearer {first}") == [ALLOWED, DENIED]
    assert statuses(member, frames, f"Bearer {second}") == [DENIED, ALLOWED]
    expected = records_of(frames, **{first_name: [ALLOWED, DENIED], second_name: [DENIED, ALLOWED]})
    assert records() == (expected, {part(first, 1)["iss"]})


def test_token_of_an_unlisted_client_of_the_pool_answers_401(member, access_token, cognito, pool, frames):
    token = access_token((pool[0], new_client(cognito, pool[0], "somebody-else")), SCOPE)
    answer = member.get(frames[0], f"Bearer {token}")
    assert problem(answer) == (401, "client-not-accepted")
    assert answer.headers["x-amzn-Remapped-WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_preflight_needs_no_cognito_token(member, frames):
    assert member.preflight(frames[0]).status_code == 204


@pytest.fixture(scope="module")
def tokens(access_token, cognito, pool, user_tokens):
    """Tokens of this pool, and one of another pool."""
    return {
        "good": access_token(pool, SCOPE),
        "another scope": access_token(pool, "frames/other"),
        "another pool": access_token(new_pool(cognito, "others"), SCOPE),
        "identity": user_tokens["IdToken"],
        "sign-in": user_tokens["AccessToken"],
    }


def with_other_claims(token):
    header, _, signature = token.split(".")
    return f"{header}.{base64url({**part(token, 1), 'exp': 2**33})}.{signature}"


REFUSED_BY_COGNITO = {
    "no token": lambda tokens: None,
    "no JWT": lambda tokens: "Bearer opaque",
    "another scope": lambda tokens: f"Bearer {tokens['another scope']}",
    "another pool": lambda tokens: f"Bearer {tokens['another pool']}",
    "identity token, where a scope is asked for": lambda tokens: f"Bearer {tokens['identity']}",
    "access token without the scope": lambda tokens: f"Bearer {tokens['sign-in']}",
    "unsigned": lambda tokens: f"Bearer {compact({'alg': 'none'}, part(tokens['good'], 1))}",
    "wrong key": lambda tokens: (
        f"Bearer {SigningKey('RS256', part(tokens['good'], 0)['kid']).sign(part(tokens['good'], 1))}"
    ),
    "changed": lambda tokens: f"Bearer {with_other_claims(tokens['good'])}",
}


@pytest.mark.parametrize("authorization", REFUSED_BY_COGNITO.values(), ids=REFUSED_BY_COGNITO)
def test_other_cognito_token_answers_401_with_a_problem_document(member, tokens, frames, authorization):
    answer = member.get(frames[0], authorization(tokens))
    assert problem(answer) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
