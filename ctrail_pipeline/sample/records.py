"""The records of the sample buckets: every shape that matters to a reader, in CloudTrail's bytes.

The text is put together by hand rather than by `json.dumps`: so floats, escapes and big integers
are as CloudTrail writes them, and a record costs about 15 µs. Not here: packing records into log
files (`bucket`).
"""

from bisect import bisect
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import accumulate
from random import Random

EVENT_TIME = "%Y-%m-%dT%H:%M:%SZ"

Record = tuple[str, str]
"""Event time and text of a record. Sorting records sorts them by time."""

_RECORD = (
    '{"eventVersion":"1.%(version)s","userIdentity":%(identity)s,"eventTime":"%(time)s",'
    '"eventSource":"%(source)s.amazonaws.com","eventName":"%(name)s","awsRegion":"%(region)s",'
    '"sourceIPAddress":"%(ip)s","userAgent":"%(agent)s",%(error)s'
    '"requestParameters":%(request)s,"responseElements":%(response)s,%(additional)s'
    '"requestID":"%(request_id)s","eventID":"%(event_id)s","readOnly":%(read_only)s,%(resources)s'
    '"eventType":"%(type)s","managementEvent":%(management)s,%(recipient)s%(shared)s'
    '"eventCategory":"%(category)s"%(tls)s}'
)
_ASSUMED_ROLE = (
    '{"type":"AssumedRole","principalId":"AROAEXAMPLE%(id)s:%(session)s","arn":'
    '"arn:aws:sts::%(account)s:assumed-role/%(role)s/%(session)s","accountId":"%(account)s",'
    '"accessKeyId":"ASIAEXAMPLE%(key)s","sessionContext":{"sessionIssuer":{"type":"Role",'
    '"principalId":"AROAEXAMPLE%(id)s","arn":"arn:aws:iam::%(account)s:role/%(role)s",'
    '"accountId":"%(account)s","userName":"%(role)s"},"webIdFederationData":{},"attributes":'
    '{"creationDate":"%(time)s","mfaAuthenticated":"%(mfa)s"}}%(invoked_by)s}'
)
_INSTANCE = (
    '{"instanceId":"i-0%(hex)s","imageId":"ami-0a1b2c3d4e5f60718","instanceState":{"code":0,'
    '"name":"pending"},"privateDnsName":"ip-10-0-%(low)s.%(region)s.compute.internal",'
    '"amiLaunchIndex":%(number)d,"productCodes":{},"instanceType":"m7i.large","launchTime":'
    '%(millis)s,"placement":{"availabilityZone":"%(region)sa","tenancy":"default"},'
    '"monitoring":{"state":"pending"},"subnetId":"subnet-0%(hex)s","vpcId":"vpc-0f9e8d7c6b5a49382"'
    ',"privateIpAddress":"10.0.%(low)s","stateReason":{"code":"pending","message":"pending"},'
    '"architecture":"x86_64","rootDeviceType":"ebs","rootDeviceName":"/dev/xvda",'
    '"blockDeviceMapping":{},"virtualizationType":"hvm","hypervisor":"xen","tagSet":{"items":['
    '{"key":"Name","value":"worker-%(number)d"},{"key":"cost-centre","value":"R&D"}]},"groupSet":'
    '{"items":[{"groupId":"sg-0123456789abcdef0","groupName":"workers"}]},"clientToken":"%(token)s"'
    ',"networkInterfaceSet":{"items":[{"networkInterfaceId":"eni-0%(hex)s","macAddress":'
    '"0a:ff:%(mac)s","status":"in-use","sourceDestCheck":true}]},"ebsOptimized":true,'
    '"cpuOptions":{"coreCount":1,"threadsPerCore":2},"metadataOptions":{"state":"pending",'
    '"httpTokens":"required","httpPutResponseHopLimit":1,"httpEndpoint":"enabled"}}'
)
_READS = (
    ("ec2", "DescribeInstances", '{"maxResults":1000,"instancesSet":{},"filterSet":{}}'),
    ("ec2", "DescribeNetworkInterfaces", '{"networkInterfaceIdSet":{},"filterSet":{}}'),
    ("elasticloadbalancing", "DescribeTargetHealth", '{"targetGroupArn":"arn:aws:elb:tg/web"}'),
    ("logs", "DescribeLogStreams", '{"logGroupName":"/aws/lambda/checkout","descending":true}'),
    ("s3", "GetBucketAcl", '{"bucketName":"example-artifacts","Host":"s3.amazonaws.com"}'),
    ("ecs", "DescribeTasks", '{"cluster":"production","tasks":["arn:aws:ecs:task/1"]}'),
    ("cloudwatch", "GetMetricData", '{"maxDatapoints":100800,"scanBy":"TimestampDescending"}'),
    ("rds", "DescribeDBInstances", "null"),
    ("tagging", "GetResources", '{"resourcesPerPage":100,"tagFilters":[]}'),
)
_ROLES = ("deploy-pipeline", "ReadOnlyAudit", "eks-node-group", "checkout-lambda", "data-platform")
_USERS = ("anaya", "bjorn", "chidi", "dolores")
_AGENTS = (
    "aws-sdk-go-v2/1.32.3 os/linux lang/go#1.23.1 md/GOOS#linux md/GOARCH#amd64 api/ec2#1.198.1",
    "Boto3/1.35.20 md/Botocore#1.35.20 ua/2.0 os/linux#6.1.0 md/arch#x86_64 lang/python#3.12.6 "
    "md/pyimpl#CPython cfg/retry-mode#standard Botocore/1.35.20",
    "aws-cli/2.17.56 md/awscrt#0.21.2 ua/2.0 os/macos#23.6.0 md/arch#arm64 lang/python#3.11.9 "
    "md/prompt#off md/command#s3.ls",
    "APN/1.0 HashiCorp/1.0 Terraform/1.9.5 (+https:\\/\\/www.terraform.io) aws-sdk-go-v2/1.30.4",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)",
)
_NETWORKS = ("192.0.2.", "198.51.100.", "203.0.113.")  # reserved for documentation
_SERVICES = ("config", "autoscaling", "lambda", "ecs-tasks", "cloudformation")
_TAGS = (  # raw UTF-8, escapes, escaped surrogate pairs, escaped slashes, quotes and line ends
    '{"key":"Standort","value":"Zürich – 東京 🚀"}',
    '{"key":"Ort","value":"Z\\u00fcrich \\u2013 \\u6771\\u4eac \\ud83d\\ude80"}',
    '{"key":"owner","value":"\\u003cteam\\/payments\\u003e"}',
    '{"key":"note","value":"line 1\\nline 2\\t\\"quoted\\" \\\\ back\\u0000slash"}',
)
_NUMBERS = (  # what changes when JSON is read as numbers and written again
    '{"createdTime":1.688E9,"ratio":0.0,"sequence":%(digits)s}',
    '{"createdTime":1.7034567E9,"threshold":1.0E-6,"lastSequence":%(digits)s}',
    '{"timeout":30.0,"baseline":8.82145E-5,"limit":-0.0,"position":%(digits)s}',
)


_Kind = Callable[[dict[str, str]], None]


class RecordWriter:
    """Writes records one after another. Each record has an event ID of its own."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        self._noise = "".join(rng.choices(letters, k=1 << 16))
        self._capitals = "".join(rng.choices(letters[:26] + "234567", k=1 << 12))
        kinds: tuple[tuple[int, _Kind], ...] = (
            (380, self._read),
            (150, self._service_assumes_role),
            (140, self._decrypt),
            (120, self._object_data),
            (60, self._denied),
            (50, self._user),
            (30, self._identity_management),
            (20, self._numbers),
            (15, self._tags),
            (10, self._federated),
            (8, self._console_login),
            (6, self._other_accounts_object),
            (4, self._root),
            (3, self._service_event),
            (2, self._run_instances),
            (2, self._addendum),
        )
        self._kinds = [kind for _, kind in kinds]
        self._bounds = list(accumulate(weight for weight, _ in kinds))
        self._callers: dict[str, list[dict[str, str]]] = {}
        self._half_shared: tuple[str, str] | None = None

    def record(self, account: str, region: str, delivered: datetime) -> Record:
        """Return a record of `account` from the ten minutes before `delivered`."""
        rng = self._rng
        at = f"{delivered - timedelta(seconds=rng.randrange(608)):{EVENT_TIME}}"
        fields = {
            "account": account,
            "version": "11",
            "time": at,
            "region": region,
            "error": "",
            "request": "null",
            "response": "null",
            "additional": "",
            "request_id": uuid(rng),
            "event_id": uuid(rng),
            "read_only": "true",
            "resources": "",
            "type": "AwsApiCall",
            "management": "true",
            "recipient": f'"recipientAccountId":"{account}",',
            "shared": "",
            "category": "Management",
            "tls": "",
        } | self._caller(account, at)
        self._kinds[bisect(self._bounds, rng.randrange(self._bounds[-1]))](fields)
        if not fields["tls"] and fields["type"] == "AwsApiCall":
            fields["tls"] = (
                ',"tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256",'
                f'"clientProvidedHostHeader":"{fields["source"]}.{region}.amazonaws.com"}}'
            )
        return at, _RECORD % fields

    # Each method below completes the fields of a kind of record: source, name, and what is special.

    def _read(self, fields: dict[str, str]) -> None:
        fields["source"], fields["name"], fields["request"] = self._rng.choice(_READS)
        if self._rng.random() < 0.02:
            fields["read_only"] = '"true"'  # older services write a string

    def _service_assumes_role(self, fields: dict[str, str]) -> None:
        """Let an AWS service assume a role: such events mostly have no `userIdentity.accountId`."""
        service = self._rng.choice(_SERVICES) + ".amazonaws.com"
        role, account = self._rng.choice(_ROLES), fields["account"]
        session = self._session()
        fields |= {
            "source": "sts",
            "name": "AssumeRole",
            "identity": f'{{"type":"AWSService","invokedBy":"{service}"}}',
            "ip": service,
            "agent": service,
            "request": f'{{"roleArn":"arn:aws:iam::{account}:role/{role}",'
            f'"roleSessionName":"{session}"}}',
            "response": '{"credentials":{"accessKeyId":"ASIAEXAMPLE'
            f'{self._id()}","sessionToken":"{self._random(260)}","expiration":"Jan 15, 2026, '
            '11:59:59 PM"},"assumedRoleUser":{"assumedRoleId":"AROAEXAMPLE'
            f'{self._id()}:{session}","arn":"arn:aws:sts::{account}:assumed-role/{role}/'
            f'{session}"}}}}',
            "resources": f'"resources":[{{"accountId":"{account}","type":"AWS::IAM::Role",'
            f'"ARN":"arn:aws:iam::{account}:role/{role}"}}],',
            "shared": f'"sharedEventID":"{uuid(self._rng)}",',
            "tls": " ",
        }
        if self._rng.random() < 0.02:
            fields["recipient"] = ""  # then only the key says which account the event belongs to

    def _decrypt(self, fields: dict[str, str]) -> None:
        account, region = fields["account"], fields["region"]
        fields |= {
            "source": "kms",
            "name": self._rng.choice(("Decrypt", "GenerateDataKey")),
            "request": '{"encryptionContext":{"aws:lambda:FunctionArn":"arn:aws:lambda:'
            f'{region}:{account}:function:checkout","aws:s3:arn":"arn:aws:s3:::example-data-'
            f'{account}/part={self._hex(6)}"}},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}}',
            "resources": f'"resources":[{{"accountId":"{account}","type":"AWS::KMS::Key","ARN":'
            f'"arn:aws:kms:{region}:{account}:key/0a1b2c3d-example-{account}"}}],',
        }

    def _object_data(self, fields: dict[str, str]) -> None:
        """Make a data event of S3. Byte counts are floats such as 0.0."""
        bucket, key = f"example-data-{fields['account']}", f"in/{self._hex(8)}.parquet"
        fields |= {
            "source": "s3",
            "name": self._rng.choice(("GetObject", "HeadObject")),
            "request": f'{{"bucketName":"{bucket}","Host":"{bucket}.s3.amazonaws.com","key":'
            f'"{key}"}}',
            "additional": '"additionalEventData":{"SignatureVersion":"SigV4","CipherSuite":'
            '"TLS_AES_128_GCM_SHA256","bytesTransferredIn":0.0,"AuthenticationMethod":"AuthHeader"'
            f',"x-amz-id-2":"{self._random(76)}","bytesTransferredOut":'
            f"{float(self._rng.randrange(1 << 24))}}},",
            "resources": f'"resources":[{{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::{bucket}/'
            f'{key}"}},{{"accountId":"{fields["account"]}","type":"AWS::S3::Bucket","ARN":'
            f'"arn:aws:s3:::{bucket}"}}],',
            "management": "false",
            "category": "Data",
        }
        if self._rng.random() < 0.02:  # an anonymous reader, whose account id is not an id
            fields["identity"] = (
                '{"type":"AWSAccount","principalId":"","accountId":"ANONYMOUS_PRINCIPAL"}'
            )

    def _denied(self, fields: dict[str, str]) -> None:
        self._read(fields)
        arn = f"arn:aws:sts::{fields['account']}:assumed-role/{self._rng.choice(_ROLES)}"
        action = f"{fields['source']}:{fields['name']}"
        fields["error"] = (
            '"errorCode":"AccessDenied","errorMessage":"User: '
            f"{arn}/{self._session()} is not authorized to perform: {action} because no "
            'identity-based policy allows the action",'
        )

    def _user(self, fields: dict[str, str]) -> None:
        self._read(fields)
        fields["identity"] = self._user_identity(fields["account"])

    def _identity_management(self, fields: dict[str, str]) -> None:
        """Make an event of IAM, which is global: its region is us-east-1 in any log file."""
        fields |= {
            "source": "iam",
            "name": self._rng.choice(("ListAttachedRolePolicies", "GetRole", "UpdateLoginProfile")),
            "region": "us-east-1",
            "request": f'{{"roleName":"{self._rng.choice(_ROLES)}"}}',
        }

    def _numbers(self, fields: dict[str, str]) -> None:
        numbers = self._rng.choice(_NUMBERS)
        digits = str(self._rng.randrange(10**29, 10**30))
        fields |= {
            "source": "kinesis",
            "name": "DescribeStreamSummary",
            "response": numbers % {"digits": digits},
        }

    def _tags(self, fields: dict[str, str]) -> None:
        tags = ",".join(self._rng.choices(_TAGS, k=3))
        fields |= {
            "source": "ec2",
            "name": "CreateTags",
            "read_only": "false",
            "request": f'{{"resourcesSet":{{"items":[{{"resourceId":"i-0{self._hex(16)}"}}]}},'
            f'"tagSet":{{"items":[{tags}]}}}}',
            "response": f'{{"requestId":"{fields["request_id"]}","_return":true}}',
        }

    def _federated(self, fields: dict[str, str]) -> None:
        provider = "oidc.example.com"
        fields |= {
            "source": "sts",
            "name": "AssumeRoleWithWebIdentity",
            "identity": f'{{"type":"WebIdentityUser","principalId":"{provider}:aud:'
            f'{self._session()}","userName":"repo:example\\/shop:ref:refs\\/heads\\/main",'
            f'"identityProvider":"{provider}"}}',
            "request": f'{{"roleArn":"arn:aws:iam::{fields["account"]}:role/deploy-pipeline",'
            '"durationSeconds":3600}',
            "response": f'{{"subjectFromWebIdentityToken":"example/shop","provider":"{provider}",'
            f'"credentials":{{"sessionToken":"{self._random(400)}"}}}}',
        }

    def _console_login(self, fields: dict[str, str]) -> None:
        failed = self._rng.random() < 0.2
        fields |= {
            "version": "08",
            "source": "signin",
            "name": "ConsoleLogin",
            "type": "AwsConsoleSignIn",
            "identity": self._user_identity(fields["account"]),
            "agent": _AGENTS[-1],
            "error": '"errorMessage":"Failed authentication",' if failed else "",
            "response": '{"ConsoleLogin":"%s"}' % ("Failure" if failed else "Success"),
            "additional": '"additionalEventData":{"LoginTo":"https://console.aws.amazon.com/'
            'console/home?state=hashArgs%23&isauthcode=true","MobileVersion":"No","MFAUsed":"Yes"'
            "},",
            "read_only": "false",
            "region": self._rng.choice(("us-east-1", fields["region"])),
        }
        if self._rng.random() < 0.3:
            fields["recipient"] = ""  # as in old sign-in events: the account is that of the user

    def _other_accounts_object(self, fields: dict[str, str]) -> None:
        """Make a call across accounts: each account gets an event, both with one sharedEventID."""
        self._object_data(fields)
        if self._half_shared and self._half_shared[1] != fields["account"]:
            shared, self._half_shared = self._half_shared[0], None
        else:
            shared = uuid(self._rng)
            self._half_shared = shared, fields["account"]
        fields["shared"] = f'"sharedEventID":"{shared}",'

    def _root(self, fields: dict[str, str]) -> None:
        account = fields["account"]
        fields |= {
            "source": "organizations",
            "name": "ListAccounts",
            "region": "us-east-1",
            "identity": f'{{"type":"Root","principalId":"{account}","arn":"arn:aws:iam::{account}'
            f':root","accountId":"{account}","accessKeyId":"","sessionContext":{{"attributes":'
            f'{{"creationDate":"{fields["time"]}","mfaAuthenticated":"true"}}}}}}',
        }

    def _service_event(self, fields: dict[str, str]) -> None:
        account = fields["account"]
        fields |= {
            "source": "kms",
            "name": "RotateKey",
            "type": "AwsServiceEvent",
            "identity": f'{{"accountId":"{account}","invokedBy":"AWS Internal"}}',
            "ip": "AWS Internal",
            "agent": "AWS Internal",
            "read_only": "false",
            "additional": f'"serviceEventDetails":{{"keyId":"{uuid(self._rng)}"}},',
        }

    def _run_instances(self, fields: dict[str, str]) -> None:
        """Make the event that is far larger than all other events: tens of KB."""
        rng = self._rng
        instances = ",".join(
            _INSTANCE
            % {
                "number": number,
                "hex": self._hex(16),
                "low": f"{rng.randrange(256)}.{rng.randrange(1, 255)}",
                "mac": ":".join(f"{part:02x}" for part in rng.randbytes(4)),
                "millis": "1.768E12",
                "token": uuid(rng),
                "region": fields["region"],
            }
            for number in range(rng.randint(8, 30))
        )
        fields |= {
            "source": "ec2",
            "name": "RunInstances",
            "read_only": "false",
            "request": '{"instancesSet":{"items":[{"imageId":"ami-0a1b2c3d4e5f60718","minCount":1,'
            '"maxCount":30}]},"instanceType":"m7i.large","userData":"<sensitiveDataRemoved>"}',
            "response": f'{{"reservationId":"r-0{self._hex(16)}","ownerId":"{fields["account"]}",'
            f'"instancesSet":{{"items":[{instances}]}}}}',
        }

    def _addendum(self, fields: dict[str, str]) -> None:
        """Make a correction of an earlier event, with an event ID of its own."""
        self._decrypt(fields)
        fields["additional"] = (
            '"addendum":{"reason":"UPDATED_DATA","updatedFields":"responseElements",'
            f'"originalRequestID":"{uuid(self._rng)}","originalEventID":"{uuid(self._rng)}"}},'
        )

    def _caller(self, account: str, at: str) -> dict[str, str]:
        """Return the caller, mostly a caller of before: for that reason real logs compress well."""
        callers = self._callers.setdefault(account, [])
        if callers and self._rng.random() < 0.9:
            return self._rng.choice(callers)
        invoked = self._rng.random() < 0.15
        identity = _ASSUMED_ROLE % {
            "id": self._id(),
            "key": self._id(),
            "session": self._session(),
            "account": account,
            "role": self._rng.choice(_ROLES),
            "time": at,
            "mfa": "true" if self._rng.random() < 0.1 else "false",
            "invoked_by": ',"invokedBy":"cloudformation.amazonaws.com"' if invoked else "",
        }
        caller = {
            "identity": identity,
            "ip": self._rng.choice(_NETWORKS) + str(self._rng.randrange(1, 255)),
            "agent": self._rng.choice(_AGENTS),
        }
        callers[:] = [*callers[-2:], caller]
        return caller

    def _user_identity(self, account: str) -> str:
        user = self._rng.choice(_USERS)
        return (
            f'{{"type":"IAMUser","principalId":"AIDAEXAMPLE{self._id()}","arn":"arn:aws:iam::'
            f'{account}:user/{user}","accountId":"{account}","accessKeyId":"AKIAEXAMPLE'
            f'{self._id()}","userName":"{user}"}}'
        )

    def _session(self) -> str:
        return f"session-{self._rng.getrandbits(64):016x}"

    def _hex(self, digits: int) -> str:
        return f"{self._rng.getrandbits(4 * digits):0{digits}x}"

    def _id(self) -> str:
        start = self._rng.randrange(len(self._capitals) - 9)
        return self._capitals[start : start + 9]

    def _random(self, length: int) -> str:
        start = self._rng.randrange(len(self._noise) - length)
        return self._noise[start : start + length]


def uuid(rng: Random) -> str:
    """Return a random UUID of version 4."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
