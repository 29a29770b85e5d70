"""A small OpenID Connect provider for tests, on Authlib: `python provider.py PORT`.

Authorization code with PKCE, signed JWT access tokens (RFC 9068), refresh tokens that work once, and
keys at `/jwks`. Whoever types a name at `/authorize` is that person, with the roles of `ROLES`,
in the tenant that was last told to `/tenant`.
"""

import sys
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import (
    AuthorizationCodeMixin,
    ClientMixin,
    InvalidGrantError,
    TokenMixin,
    grants,
)
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from flask import Flask, jsonify, redirect, request
from joserfc.jwk import ECKey, KeySet

ROLES = {"ada": ["admin"], "vera": ["viewer"], "nobody": []}
LIFETIME = {"authorization_code": 60, "refresh_token": 3600}

AUDIENCE = "interpretops"
CLIENT, SECRET = "dashboard", "a-secret-of-tests"
FORM = """<!doctype html><title>Provider</title><form method="post">
<label>Name <input name="user"></label> <button>Go on</button></form>"""


class Client(ClientMixin):
    def __init__(self, redirects):
        self.redirects = redirects

    def get_client_id(self):
        return CLIENT

    def get_default_redirect_uri(self):
        return self.redirects[0]

    def get_allowed_scope(self, scope):
        return scope or ""

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri in self.redirects

    def check_client_secret(self, client_secret):
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_basic"

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return grant_type in ("authorization_code", "refresh_token")


class User:
    def __init__(self, name):
        self.name = name

    def get_user_id(self):
        return self.name


class Code(AuthorizationCodeMixin):
    def __init__(self, code, request):
        self.code, self.user = code, request.user
        data = request.payload.data
        self.redirect_uri, self.scope = data.get("redirect_uri"), data.get("scope", "")
        self.nonce = data.get("nonce")
        self.code_challenge = data.get("code_challenge")
        self.code_challenge_method = data.get("code_challenge_method")

    def get_redirect_uri(self):
        return self.redirect_uri

    def get_scope(self):
        return self.scope

    def get_nonce(self):
        return self.nonce

    def get_auth_time(self):
        return int(time.time())

    def get_acr(self):
        return None

    def get_amr(self):
        return None


class Token(TokenMixin):
    def __init__(self, scope, user):
        self.scope, self.user = scope, user

    def check_client(self, client):
        return True

    def get_scope(self):
        return self.scope

    def is_expired(self):
        return False

    def is_revoked(self):
        return False


def create_provider(port):
    issuer = f"http://127.0.0.1:{port}"
    key = ECKey.generate_key("P-256", {"use": "sig", "kid": "one"})
    app = Flask("provider")
    codes, refreshable, tenant, refreshed = {}, {}, [], []
    client = Client([])

    class CodeGrant(grants.AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

        def save_authorization_code(self, code, request):
            codes[code] = Code(code, request)

        def query_authorization_code(self, code, client):
            return codes.get(code)

        def delete_authorization_code(self, authorization_code):
            codes.pop(authorization_code.code, None)

        def authenticate_user(self, authorization_code):
            return authorization_code.user

    class RefreshGrant(grants.RefreshTokenGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)
        INCLUDE_NEW_REFRESH_TOKEN = True

        def authenticate_refresh_token(self, refresh_token):
            found = refreshable.pop(refresh_token, None)
            if found is None:
                raise InvalidGrantError("this refresh token was used before")
            refreshed.append(refresh_token)
            return found

        def authenticate_user(self, refresh_token):
            return refresh_token.user

        def revoke_old_credential(self, refresh_token):
            pass

    class Identity(OpenIDCode):
        def exists_nonce(self, nonce, request):
            return False

        def get_client_claims(self, client):
            return {"iss": issuer}

        def get_client_algorithm(self, client):
            return "ES256"

        def get_encode_header(self, client):
            return {"alg": "ES256", "kid": "one"}

        def get_compatible_claims(self, request):
            now = int(time.time())
            return {"iss": issuer, "aud": CLIENT, "iat": now, "exp": now + 300}

        def resolve_client_private_key(self, client):
            return key

        def generate_user_info(self, user, scope):
            return UserInfo(sub=user.name)

    class Tokens(JWTBearerTokenGenerator):
        def get_jwks(self):
            return KeySet([key])

        def get_audiences(self, client, user, scope):
            return AUDIENCE

        def get_extra_claims(self, client, grant_type, user, scope):
            return {"tenant_id": tenant[-1], "roles": ROLES[user.name]}

    def save_token(token, request):
        if "refresh_token" in token:
            refreshable[token["refresh_token"]] = Token(token["scope"], request.user)

    server = AuthorizationServer(app, query_client=lambda name: client, save_token=save_token)
    server.register_token_generator(
        "default",
        Tokens(
            issuer,
            alg="ES256",
            refresh_token_generator=lambda *_, **__: f"refresh-{time.time_ns()}",
            expires_generator=lambda client, grant_type: LIFETIME[grant_type],
        ),
    )
    server.register_grant(CodeGrant, [CodeChallenge(required=True), Identity()])
    server.register_grant(RefreshGrant)

    @app.get("/.well-known/openid-configuration")
    def metadata():
        return jsonify(
            issuer=issuer,
            authorization_endpoint=f"{issuer}/authorize",
            token_endpoint=f"{issuer}/token",
            jwks_uri=f"{issuer}/jwks",
            response_types_supported=["code"],
            subject_types_supported=["public"],
            id_token_signing_alg_values_supported=["ES256"],
        )

    @app.get("/jwks")
    def jwks():
        return jsonify(KeySet([key]).as_dict(private=False))

    @app.route("/authorize", methods=["GET", "POST"])
    def authorize():
        client.redirects[:] = [request.args["redirect_uri"]]
        if request.method == "GET":
            return FORM
        name = request.form["user"]
        if name not in ROLES:
            return redirect(f"{request.args['redirect_uri']}?error=access_denied")
        grant = server.get_consent_grant(end_user=User(name))
        return server.create_authorization_response(grant=grant, grant_user=User(name))

    @app.post("/token")
    def token():
        return server.create_token_response()

    @app.post("/tenant")
    def choose_tenant():
        tenant.append(request.form["id"])
        refreshed.clear()
        return ""

    @app.get("/refreshed")
    def show_refreshed():
        return jsonify(len(refreshed))

    return app


if __name__ == "__main__":
    create_provider(int(sys.argv[1])).run(port=int(sys.argv[1]), threaded=True)
