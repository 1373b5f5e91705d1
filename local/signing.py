"""Signs ``requests`` calls to an API Gateway endpoint with SigV4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests.auth import AuthBase

if TYPE_CHECKING:
    from requests import PreparedRequest


class SigV4(AuthBase):
    """Signs for the service ``execute-api``: ``requests.get(url, auth=SigV4(key, secret, region))``.

    Parameters
    ----------
    access_key, secret_key : str
        The AWS credentials.
    region : str
        The Region of the API.
    session_token : str, optional
        The session token of temporary credentials.
    """

    def __init__(self, access_key: str, secret_key: str, region: str, session_token: str | None = None) -> None:
        self._credentials = Credentials(access_key, secret_key, session_token)
        self._region = region

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        to_sign = AWSRequest(str(request.method), str(request.url), data=request.body)
        SigV4Auth(self._credentials, "execute-api", self._region).add_auth(to_sign)
        request.headers.update(dict(to_sign.headers.items()))
        return request
