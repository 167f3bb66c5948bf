package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// requestTimeout bounds each request to the CA.
const requestTimeout = 30 * time.Second

// issuer is a certmagic.Issuer that asks one CA.
type issuer struct {
	cfg     Config
	key     string
	client  *acmez.Client
	storage certmagic.Storage
}

func newIssuer(cfg Config, storage certmagic.Storage, c *challenges, log *slog.Logger) (*issuer, error) {
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	dir, err := url.Parse(cfg.Directory)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	i := &issuer{
		cfg:     cfg,
		key:     dir.Host + strings.ReplaceAll(strings.TrimRight(dir.Path, "/"), "/", "-"),
		storage: storage,
		client: &acmez.Client{
			Client: &acme.Client{
				Directory:  cfg.Directory,
				HTTPClient: &http.Client{Transport: transport, Timeout: requestTimeout},
				UserAgent:  "Sluice",
				Logger:     log,
			},
			ChallengeSolvers: map[string]acmez.Solver{},
		},
	}
	for _, t := range cfg.Challenges {
		i.client.ChallengeSolvers[string(t)] = solver{c}
	}
	return i, nil
}

// IssuerKey implements certmagic.Issuer: it names the CA in the storage.
func (i *issuer) IssuerKey() string { return i.key }

// Issue implements certmagic.Issuer.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	account, err := i.account(ctx)
	if err != nil {
		return nil, err
	}
	chains, err := i.obtain(ctx, account, csr)
	var p acme.Problem
	if errors.As(err, &p) && p.Type == acme.ProblemTypeAccountDoesNotExist {
		// The CA has forgotten us: we introduce ourselves anew.
		if err := i.storage.Delete(ctx, i.accountKey()); err != nil {
			return nil, err
		}
		if account, err = i.account(ctx); err != nil {
			return nil, err
		}
		chains, err = i.obtain(ctx, account, csr)
	}
	if err != nil {
		return nil, err
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

func (i *issuer) obtain(ctx context.Context, account acme.Account, csr *x509.CertificateRequest) ([]acme.Certificate, error) {
	order, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	chains, err := i.client.ObtainCertificate(ctx, order)
	if err == nil && len(chains) == 0 {
		err = errors.New("the CA has sent no certificate")
	}
	return chains, err
}

// GetRenewalInfo implements certmagic.RenewalInfoGetter.
func (i *issuer) GetRenewalInfo(ctx context.Context, cert certmagic.Certificate) (acme.RenewalInfo, error) {
	return i.client.GetRenewalInfo(ctx, cert.Leaf)
}

// storedAccount is how an account is kept.
type storedAccount struct {
	Account acme.Account `json:"account"`
	Key     string       `json:"key"` // PEM
}

func (i *issuer) accountKey() string { return path.Join("accounts", i.key, "account.json") }

// account is the one of the storage, or a new one. Nodes that share the storage share it.
func (i *issuer) account(ctx context.Context) (acme.Account, error) {
	key := i.accountKey()
	if err := i.storage.Lock(ctx, key); err != nil {
		return acme.Account{}, err
	}
	defer i.storage.Unlock(context.WithoutCancel(ctx), key)
	data, err := i.storage.Load(ctx, key)
	if err == nil {
		return parseAccount(data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return acme.Account{}, err
	}
	account, data, err := i.register(ctx)
	if err != nil {
		return acme.Account{}, fmt.Errorf("register with %s: %w", i.cfg.Directory, err)
	}
	return account, i.storage.Store(ctx, key, data)
}

// register makes an account, and what is to be stored of it.
func (i *issuer) register(ctx context.Context) (acme.Account, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acme.Account{}, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return acme.Account{}, nil, err
	}
	account := acme.Account{TermsOfServiceAgreed: true, PrivateKey: key}
	if i.cfg.Email != "" {
		account.Contact = []string{"mailto:" + i.cfg.Email}
	}
	if e := i.cfg.EAB; e != nil {
		eab := acme.EAB{KeyID: e.KeyID, MACKey: strings.TrimRight(e.HMAC, "=")}
		if err := account.SetExternalAccountBinding(ctx, i.client.Client, eab); err != nil {
			return acme.Account{}, nil, err
		}
	}
	if account, err = i.client.NewAccount(ctx, account); err != nil {
		return acme.Account{}, nil, err
	}
	data, err := json.Marshal(storedAccount{account, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	return account, data, err
}

func parseAccount(data []byte) (acme.Account, error) {
	var s storedAccount
	if err := json.Unmarshal(data, &s); err != nil {
		return acme.Account{}, fmt.Errorf("stored account: %w", err)
	}
	block, _ := pem.Decode([]byte(s.Key))
	if block == nil {
		return acme.Account{}, errors.New("stored account: no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return acme.Account{}, fmt.Errorf("stored account: %w", err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return acme.Account{}, errors.New("stored account: its key is not ECDSA")
	}
	s.Account.PrivateKey = signer
	return s.Account, nil
}
