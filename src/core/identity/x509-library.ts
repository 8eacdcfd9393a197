/**
 * The library for certificates, to be imported when it is needed: it is large and a command does without it. It stands
 * in a module of its own because the bundler breaks the dynamic import of a CommonJS module, depending on how it has
 * shortened a name (`m => m(m.default, 1)`); a static import is not affected.
 */
// oxlint-disable-next-line import/no-unassigned-import -- the library needs what it adds to Reflect, first
import "reflect-metadata";

export {
	AuthorityKeyIdentifierExtension,
	BasicConstraintsExtension,
	ExtendedKeyUsage,
	ExtendedKeyUsageExtension,
	KeyUsageFlags,
	KeyUsagesExtension,
	Pkcs10CertificateRequest,
	Pkcs10CertificateRequestGenerator,
	PublicKey,
	SubjectAlternativeNameExtension,
	SubjectKeyIdentifierExtension,
	X509Certificate,
	X509CertificateGenerator,
} from "@peculiar/x509";
