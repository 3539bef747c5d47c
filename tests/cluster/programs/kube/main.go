// Kubernetes' server side and etcd as one program: kube etcd|apiserver|controller-manager|scheduler|kubelet FLAG...
package main

import (
	"context"
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if len(os.Args) < 2 {
		refuse()
	}
	name := os.Args[1]
	if name == "etcd" { // it looks at the arguments itself
		etcdmain.Main(os.Args[1:])
		return
	}
	os.Args = append([]string{"kube-" + name}, os.Args[2:]...)
	os.Exit(run(name))
}

func run(name string) int {
	switch name {
	case "apiserver":
		return cli.Run(apiserver.NewAPIServerCommand())
	case "controller-manager":
		return cli.Run(manager.NewControllerManagerCommand())
	case "scheduler":
		return cli.Run(scheduler.NewSchedulerCommand())
	case "kubelet":
		return cli.Run(kubelet.NewKubeletCommand(context.Background()))
	}
	refuse()
	return 2
}

func refuse() {
	fmt.Fprintln(os.Stderr, "usage: kube etcd|apiserver|controller-manager|scheduler|kubelet FLAG...")
	os.Exit(2)
}
