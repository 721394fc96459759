package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// netnsAnnotation names the network namespace of a pod; the same that the file source of the mesh reads.
const netnsAnnotation = "posthaste.dev/netns"

// podPortForwards is pods/portforward. The streaming is kubelet's and containerd's own code; what they do on a
// node, enter the pod's network namespace and connect to its loopback, is done here, since pods have no node.
type podPortForwards struct {
	pods *genericregistry.Store
}

func (podPortForwards) New() apiruntime.Object { return &corev1.PodPortForwardOptions{} }

func (podPortForwards) Destroy() {}

func (podPortForwards) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// NewConnectOptions has none: the ports are read from the query by kubelet's code.
func (podPortForwards) NewConnectOptions() (apiruntime.Object, bool, string) { return nil, false, "" }

func (r podPortForwards) Connect(ctx context.Context, name string, _ apiruntime.Object, _ rest.Responder) (http.Handler, error) {
	obj, err := r.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	if pod.Status.Phase != corev1.PodRunning {
		return nil, errors.NewBadRequest(fmt.Sprintf("unable to forward port because pod is not running. Current status=%v", pod.Status.Phase))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req = withPortsAsKubeletReadsThem(req)
		options, err := portforward.NewV4Options(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, req, namespaceForwarder(pod.Annotations[netnsAnnotation]), name, string(pod.UID),
			options, 4*time.Hour, 30*time.Second, portforward.SupportedProtocols)
	}), nil
}

// withPortsAsKubeletReadsThem names them "port", as the real server does on the way to kubelet (PodPortForwardOptions has "ports",
// PortForwardLocation in pkg/registry/core/pod adds them as "port").
func withPortsAsKubeletReadsThem(req *http.Request) *http.Request {
	asked := req.URL.Query()
	for _, ports := range asked["ports"] {
		for _, port := range strings.Split(ports, ",") {
			asked.Add(portforward.PortHeader, port)
		}
	}
	req = req.Clone(req.Context())
	req.URL.RawQuery = asked.Encode()
	return req
}

// namespaceForwarder is the path of a network namespace; empty is the server's own.
type namespaceForwarder string

func (f namespaceForwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := f.dial(port)
	if err != nil {
		return err
	}
	defer conn.Close()
	done := make(chan struct{}, 2)
	carry := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go carry(conn, stream)
	go carry(stream, conn)
	<-done
	return nil
}

func (f namespaceForwarder) dial(port int32) (net.Conn, error) {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if f == "" {
		return net.Dial("tcp4", address)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		// The thread is never unlocked, so that it ends with the goroutine and does not carry the namespace elsewhere.
		runtime.LockOSThread()
		conn, err := f.dialInside(address)
		answer <- result{conn, err}
	}()
	got := <-answer
	return got.conn, got.err
}

func (f namespaceForwarder) dialInside(address string) (net.Conn, error) {
	fd, err := unix.Open(string(f), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", f, err)
	}
	return net.Dial("tcp4", address)
}
