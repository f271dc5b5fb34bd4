# An example: who may use external keys, beyond what IAM and key policies say.
# `policy-cases.toml` shows what it decides; try both with
#
#   twinlock-xks policy test --policy policy.rego --cases policy-cases.toml
package twinlock.xks

# One account encrypts and decrypts.
allow if startswith(input.principal, "arn:aws:iam::111122223333:")

# Another one restores backups, through S3 only.
allow if {
	input.operation == "Decrypt"
	glob.match("arn:aws:iam::444455556666:role/restore-*", [], input.principal)
	input.via_service == "s3.eu-central-1.amazonaws.com"
}

# Whoever creates a KMS key in this key store asks for the external key's metadata.
allow if input.operation == "GetKeyMetadata"

# Whatever allows it: invoices are decrypted from our own network only.
deny contains "invoices leave our VPC" if {
	input.key == "invoices"
	input.operation == "Decrypt"
	not input.source_vpc == "vpc-0123456789abcdef0"
}
