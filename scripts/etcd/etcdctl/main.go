// etcd's command line client.
package main

import ctlv3 "go.etcd.io/etcd/etcdctl/v3/ctlv3"

func main() { ctlv3.MustStart() }
